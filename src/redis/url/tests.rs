//! Tests of reading and showing URLs.

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> RedisUrl {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn every_form_is_read_and_shown_without_its_secrets() {
    for (text, shown) in [
        ("redis://h", "redis://h:6379"),
        ("redis://h:1/3", "redis://h:1/3"),
        ("redis://h?db=3", "redis://h:6379/3"),
        ("rediss://:pw@h", "rediss://:***@h:6379"),
        ("REDISS://u:p%40w@h", "rediss://u:***@h:6379"),
        (
            "redis://u@h?password_file=/p",
            "redis://u@h:6379?password_file=/p",
        ),
        ("redis://[::1]:7/", "redis://[::1]:7"),
        (
            "redis+sentinel://a,b:2/main/4",
            "redis+sentinel://a:26379,b:2/main/4",
        ),
        (
            "rediss+sentinel://u:p@a/main?sentinel_user=s&sentinel_password_file=/s",
            "rediss+sentinel://u:***@a:26379/main?sentinel_user=s&sentinel_password_file=/s",
        ),
        ("redis+cluster://a,b:7000", "redis+cluster://a:6379,b:7000"),
        ("unix:///run/r.sock?db=2", "unix:///run/r.sock?db=2"),
        ("unix:/run/r.sock", "unix:///run/r.sock"),
        ("redis+socket://u:p@/run/r.sock", "unix://u:***@/run/r.sock"),
        (
            "rediss://h?ca=/ca.pem&cert=/c.pem&key=/k.pem&timeout=500ms&connect_timeout=1m",
            "rediss://h:6379?ca=/ca.pem&cert=/c.pem&key=/k.pem&connect_timeout=60000ms&timeout=500ms",
        ),
    ] {
        let url = read(text);
        assert_eq!(url.to_string(), shown);
        assert_eq!(format!("{url:?}"), format!("RedisUrl({shown})"));
        // What is shown is a URL again, apart from the password.
        assert_eq!(read(shown).to_string(), shown);
    }
    assert!(read("redis://u:p%40w%25@h").login.password == Password::Inline("p@w%".into()));
    assert_eq!(read("redis://h?timeout=3").timeout, Duration::from_secs(3));
}

#[test]
fn what_is_wrong_is_said_and_not_repeated() {
    for (text, expected) in [
        ("localhost", "not a URL"),
        ("rediz://h", "did you mean `redis`?"),
        ("redis:h", "without `//`"),
        ("redis://", "without a host"),
        ("redis://h:0", "1 to 65535"),
        ("redis://::1", "IPv6"),
        ("redis://a,b", "redis+sentinel"),
        ("redis://h/x", "not a number"),
        ("redis://h/1/2", "more parts"),
        ("redis+cluster://h/1", "has only 0"),
        ("redis+cluster://h?db=1", "has only 0"),
        ("redis+sentinel://h", "name of a master"),
        ("redis://u:hunter2/x@h", "%2F"),
        ("redis://u:1?hunter2=x@h", "%3F"),
        ("redis://u:1#hunter2", "%23"),
        ("redis://u:hunter%2x@h", "%25"),
        ("redis://token@h", "a user without a password"),
        (
            "redis://:pw@h?password_file=/p",
            "a password and a password file",
        ),
        ("redis://h?password=hunter2", "in front of the host"),
        ("redis://h?namspace=x", "did you mean `namespace`?"),
        ("redis://h?hunter2=x", "known are db, namespace"),
        ("redis://h?namespace=a{b}", "namespace other than"),
        ("redis://h?timeout=5h", "write 2s"),
        ("redis://h?timeout=1ms", "10ms to 10m"),
        ("redis://h?ca=/x", "rediss"),
        ("rediss://h?cert=/x", "without the other"),
        ("redis://h?sentinel_user=x", "without sentinels"),
        ("redis://h?db", "without a value"),
        ("unix:run/r.sock", "absolute path"),
        ("redis://a b", "spaces"),
    ] {
        let error = text.parse::<RedisUrl>().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn a_password_never_shows(password in "[a-z:/?#@=&%]{0,6}hunter2[a-z:/?#@=&%]{0,6}") {
        for form in ["redis://user:PW@host/0", "redis+sentinel://:PW@a,b/main", "unix://u:PW@/s"] {
            match form.replace("PW", &password).parse::<RedisUrl>() {
                Ok(url) => {
                    let shown = format!("{url} {url:?} {:?}", url.login);
                    prop_assert!(!shown.contains("hunter2"), "{}", shown);
                }
                Err(error) => prop_assert!(!format!("{error} {error:?}").contains("hunter2"), "{}", error),
            }
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*", tail in "[a-z:/?#@=&%,+]{0,20}") {
        drop(text.parse::<RedisUrl>());
        drop(format!("redis+sentinel://{tail}").parse::<RedisUrl>());
        drop(format!("unix:{tail}").parse::<RedisUrl>());
    }
}
