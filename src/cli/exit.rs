//! Exit codes by meaning, and errors on their way to becoming one.

use std::fmt;
use std::process::ExitCode;

use celeriac_actors::health::Verdict;

use super::output;
use crate::admin::fault::Fault;

/// How a command ended, as scripts see it. Numbers follow `sysexits.h` where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Ok,
    /// 1: a task failed.
    TaskFailed,
    /// 64: the command or the configuration is wrong.
    Usage,
    /// 69: the broker or the store cannot be reached.
    Unavailable,
    /// 70: the supervisor gave up.
    GaveUp,
    /// 75: the process wants to be replaced.
    Recycle,
    /// 0 to 3: the verdict of `celeriac health`.
    Verdict(Verdict),
}

impl Exit {
    /// Returns the number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::TaskFailed => 1,
            Self::Usage => 64,
            Self::Unavailable => 69,
            Self::GaveUp => 70,
            Self::Recycle => 75,
            Self::Verdict(verdict) => verdict.code(),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command failed, and with which code.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: anyhow::Error,
    /// What programs read beside the text.
    details: serde_json::Map<String, serde_json::Value>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
            details: serde_json::Map::new(),
        }
    }

    /// Adds something for programs.
    #[must_use]
    pub(crate) fn detail(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// The command or the configuration is wrong.
    pub(crate) fn usage(message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self::new(Exit::Usage, anyhow::Error::msg(message))
    }

    /// The broker or the store cannot be reached.
    pub(crate) fn unavailable(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Unavailable, error)
    }

    /// Returns the code.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Returns whether an error of this type is the reason.
    pub(crate) fn is<E: std::error::Error + Send + Sync + 'static>(&self) -> bool {
        self.error.is::<E>()
    }

    /// Says what happened on standard error and returns the code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let text = format!("{:#}", self.error);
        if json {
            let mut error = serde_json::json!({ "error": text, "exit": self.exit.code() });
            if let Some(object) = error.as_object_mut() {
                object.extend(self.details.clone());
            }
            output::complain(&error.to_string());
        } else {
            output::complain(&format!("celeriac: {text}"));
        }
        self.exit.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Broker(error) => error.into(),
            Fault::Store(error) => error.into(),
            Fault::Away(_) | Fault::Unrecorded(_) => Self::new(Exit::Unavailable, fault),
            Fault::Missing(_) | Fault::Conflict(_) => Self::new(Exit::Usage, fault),
        }
    }
}

impl From<celeriac_actors::ports::BrokerError> for Failure {
    fn from(error: celeriac_actors::ports::BrokerError) -> Self {
        let exit = if error.is_outage() {
            Exit::Unavailable
        } else {
            Exit::Usage
        };
        Self::new(exit, error)
    }
}

impl From<celeriac_actors::ports::StoreError> for Failure {
    fn from(error: celeriac_actors::ports::StoreError) -> Self {
        use celeriac_actors::ports::StoreError;
        let exit = match error {
            StoreError::Missing(_) | StoreError::Status { .. } => Exit::Usage,
            _ => Exit::Unavailable,
        };
        Self::new(exit, error)
    }
}
