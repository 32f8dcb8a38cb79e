//! `breaker list|show|open|close`: the breakers of a broker from the command line, with a worker that uses one.

use celeriac::app::App;
use celeriac::attempt::Attempt;
use celeriac::breaker::BreakerPolicy;
use celeriac::policy::Policy;
use celeriac::runtime::{Runtime, RuntimeOptions};
use celeriac::store::{Store, StoreOptions, StoreUrl};
use serde::{Deserialize, Serialize};

use crate::cli_support::{Place, code, said};
use crate::daemon::PATIENCE;

#[derive(Serialize, Deserialize)]
struct Charge;
celeriac::task!(Charge as "billing.charge" -> (), Policy::default().breaker(BreakerPolicy::default()));

#[test]
fn what_is_not_there_is_said() {
    let place = Place::new();
    place.lines(&["migrate"]);
    place.feed(&["enqueue", "--jsonl", "-"], b"");
    let nothing = "no worker uses a circuit breaker, and none is open";
    assert_eq!(place.lines(&["breaker", "list"]), [nothing]);
    let unknown = place.run(&["breaker", "show", "stripe"]);
    assert_eq!(code(&unknown), 64);
    assert!(
        said(&unknown).contains("there is no breaker `stripe`"),
        "{}",
        said(&unknown)
    );
    assert_eq!(code(&place.run(&["breaker", "open", "no name"])), 64);
    assert_eq!(
        code(&place.run(&["breaker", "open", "stripe", "--for", "soon"])),
        64
    );
    for length in ["0s", "1ms", "1000years"] {
        let refused = place.run(&["breaker", "open", "stripe", "--for", length]);
        assert_eq!(code(&refused), 64, "{length}");
        let said = said(&refused);
        assert!(said.contains("10ms to 365days"), "{length}: {said}");
    }
    let typo = place.run(&["breaker", "close", "stripe"]);
    assert_eq!(code(&typo), 64);
    assert!(
        said(&typo).contains("there is no breaker `stripe`"),
        "{}",
        said(&typo)
    );
    let opened = place.run(&["breaker", "open", "stripe"]);
    assert_eq!(code(&opened), 0, "{}", said(&opened));
    assert!(
        said(&opened).contains("no worker uses the breaker stripe"),
        "{}",
        said(&opened)
    );
    let unsure = place.run(&["breaker", "show", "strip"]);
    assert!(
        said(&unsure).contains("did you mean `stripe`?"),
        "{}",
        said(&unsure)
    );
}

/// Goal: a breaker that is opened by hand parks tasks, is seen everywhere, lets them go when it is closed, and both stand
/// in the audit. Method: a worker whose kind of task has a breaker, and the commands of another process.
#[test]
fn it_is_opened_and_closed_and_seen() {
    let place = Place::new();
    place.lines(&["migrate"]);
    let app = App::new().task(|_: Attempt<Charge>| async { Ok(()) });
    let options = RuntimeOptions::embedded(place.data()).unwrap();
    let runtime = Runtime::start(app, options).unwrap();
    let breaker = "billing.charge";
    place.until("the worker tells of its breaker", || {
        let list = place.json(&["breaker", "list", "--json"]);
        list["breakers"][0]["name"] == breaker
    });

    let open = place.json(&["breaker", "open", breaker, "--for", "10m", "--json"]);
    assert_eq!(
        (&open["state"], &open["changed"]),
        (&"open".into(), &true.into())
    );
    place.until("the worker has opened it too", || {
        let shown = place.json(&["breaker", "show", breaker, "--json"]);
        shown["workers"][0]["state"] == "open"
    });
    let client = runtime.client().sync().unwrap();
    let wanted = celeriac::producer::EnqueueOptions {
        want_outcome: true,
        ..Default::default()
    };
    let handle = client.enqueue(&Charge, wanted).unwrap();
    place.until("the task is parked", || {
        let shown = place.json(&["breaker", "show", breaker, "--json"]);
        shown["parked"].as_u64() > Some(0)
    });
    let status = place.lines(&["status"]).join("\n");
    assert!(status.contains("opened by hand"), "{status}");
    assert_eq!(
        place.json(&["status", "--json"])["breakers"][0]["state"],
        "open"
    );
    let tree = place.lines(&["tree"]).join("\n");
    assert!(tree.contains("billing.charge open since"), "{tree}");

    let closed = place.lines(&["breaker", "close", breaker]);
    assert_eq!(closed, ["billing.charge is closed"]);
    let again = place.lines(&["breaker", "close", breaker]);
    assert_eq!(again, ["billing.charge is closed; nothing was changed"]);
    let shown = place.lines(&["breaker", "show", breaker]).join("\n");
    assert!(shown.contains("closed by hand"), "{shown}");
    // Parked for seconds at most, however long the breaker was to stay open.
    client.wait::<Charge>(&handle, PATIENCE).unwrap();
    let store = StoreUrl::file(place.data().join("store.db"));
    let store = Store::open(&store, StoreOptions::default()).unwrap();
    let executor = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let audit = executor.block_on(store.audit(None, 10)).unwrap();
    let ours = audit.iter().filter(|it| it.entry.target == breaker);
    let actions: Vec<&str> = ours.map(|it| it.entry.action.as_str()).collect();
    assert_eq!(actions, ["breaker.close", "breaker.open"]);
}
