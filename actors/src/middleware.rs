//! A chain around every attempt: code of the program that runs before and after the task's own, whatever its kind.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;

use crate::context::AttemptContext;
use crate::runner::AttemptEnd;
use crate::task::TaskError;

/// One link of the chain.
pub(crate) type Link =
    Arc<dyn Fn(AttemptContext, Next) -> LocalBoxFuture<'static, Wrapped> + Send + Sync>;

/// What a link of the chain returns: what came from [`Next::run`], or an error of its own.
pub type Wrapped = Result<Done, TaskError>;

/// The proof that the rest of the chain has run, with what the task returned. Nobody else can make one.
#[derive(Debug)]
pub struct Done(Vec<u8>);

/// The rest of the chain, with the task's own code at its end.
pub struct Next {
    links: Arc<[Link]>,
    at: usize,
    body: LocalBoxFuture<'static, AttemptEnd>,
    context: AttemptContext,
    end: Rc<Cell<Option<AttemptEnd>>>,
}

impl std::fmt::Debug for Next {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Next({} of {})", self.at, self.links.len())
    }
}

impl Next {
    /// Runs the rest of the chain.
    ///
    /// # Errors
    /// The task's, or a later link's. An attempt that could not be started at all (its arguments do not decode, no task actor
    /// can take it) is an error here too, and keeps its meaning whatever the link makes of it.
    pub async fn run(self) -> Wrapped {
        let Some(link) = self.links.get(self.at).cloned() else {
            return match self.body.await {
                AttemptEnd::Returned(outcome) => outcome.map(Done),
                end => {
                    self.end.set(Some(end));
                    Err("the attempt was not started".into())
                }
            };
        };
        let context = self.context.clone();
        let next = Self {
            at: self.at + 1,
            ..self
        };
        link(context, next).await
    }
}

/// Puts the chain around the body of an attempt; the body itself where there is none.
pub(crate) fn around(
    links: &Arc<[Link]>,
    context: AttemptContext,
    body: LocalBoxFuture<'static, AttemptEnd>,
) -> LocalBoxFuture<'static, AttemptEnd> {
    if links.is_empty() {
        return body;
    }
    let end = Rc::new(Cell::new(None));
    let next = Next {
        links: Arc::clone(links),
        at: 0,
        body,
        context,
        end: Rc::clone(&end),
    };
    Box::pin(async move {
        let outcome = next.run().await;
        let returned = AttemptEnd::Returned(outcome.map(|Done(output)| output));
        end.take().unwrap_or(returned)
    })
}

/// Makes a link of a function.
pub(crate) fn link<F, R>(function: F) -> Link
where
    F: Fn(AttemptContext, Next) -> R + Send + Sync + 'static,
    R: Future<Output = Wrapped> + 'static,
{
    Arc::new(move |context, next| Box::pin(function(context, next)))
}
