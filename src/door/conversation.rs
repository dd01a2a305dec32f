//! Conversations, and the threads that go from one to another.
//!
//! A thread reads a guest's request, puts it on a line and leaves the conversation in the table of what is awaited. Then
//! it receives any call, answers it, and goes on with the conversation to which that call belongs. So no thread waits
//! for what another is doing: that would take two more switches between threads for each call, and a call that takes
//! long keeps nobody else.
//!
//! Invariant: at each endpoint as many threads receive, or will without waiting for anything else, as calls are awaited
//! there. What is received and was not awaited counts for nothing.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use super::{
    House, Seat,
    guest::Guest,
    line::Line,
    lock,
    pulse::Phase,
    request::{BUSY, Missing, Refusal, Request, Share},
    turns::Turn,
};
use crate::handover::{Body, Receive, Received};

/// A body up to this length in bytes can be sent before anyone receives the call: it fits into a line on all systems.
/// A longer one needs a thread that comes for it, in place of the one that sends it.
const MAX_UNRECEIVED: usize = 4 * 1024;

/// A guest, and what has arrived of it and was not used yet.
pub(super) struct Conversation {
    seat: Seat,
    unread: Vec<u8>,
}

/// A call on a line.
struct Call {
    conversation: Conversation,
    line: Line,
    closes: bool,
    head_only: bool,
    /// Its part of the budget and its turn, until it is answered. The body itself has been sent.
    held: (Share, Option<Turn>),
}

/// What comes over a line.
enum Awaited {
    Call(Box<Call>),
    /// Belongs to no conversation: who receives it has no more to do.
    Greeting,
}

/// What has been put on lines and was not received yet, by number. A number is never used again, unlike a line: one
/// that could not send its call whole may already carry the next.
#[derive(Default)]
pub(super) struct Calls {
    awaited: Mutex<HashMap<u64, Awaited>>,
    last: AtomicU64,
}

/// Serves a guest, and then whoever calls, until this thread is needed no more.
pub(super) fn serve(seat: Seat) {
    go_on(Conversation { seat, unread: Vec::new() });
}

/// Starts a thread that serves whoever calls, until it is needed no more.
pub(super) fn hire(house: &Arc<House>, calls: &Arc<dyn Receive>) -> io::Result<()> {
    let (house, calls) = (Arc::clone(house), Arc::clone(calls));
    let serve = move || {
        if let Some(conversation) = receive(&house, &*calls) {
            drop((house, calls));
            go_on(conversation);
        }
    };
    thread::Builder::new().name("guest".into()).spawn(serve).map(drop)
}

fn go_on(mut conversation: Conversation) {
    let house = Arc::clone(&conversation.seat.house);
    while let Some(calls) = conversation.ask() {
        match receive(&house, &*calls) {
            Some(next) => conversation = next,
            None => return,
        }
    }
}

/// Waits for a call and answers it. The conversation that it belongs to, if that goes on.
fn receive(house: &House, calls: &dyn Receive) -> Option<Conversation> {
    loop {
        let Received { call, answer } = calls.receive()?;
        match house.calls.take(call) {
            Some(Awaited::Call(call)) => return call.finish(answer()),
            Some(Awaited::Greeting) => {
                drop(answer());
                return None;
            }
            // It could not be sent whole, or nobody waited any longer.
            None => {}
        }
    }
}

impl Conversation {
    /// Takes one request and puts it on a line. Where this thread receives the next call, if it is to.
    fn ask(mut self) -> Option<Arc<dyn Receive>> {
        self.guest().enter(if self.unread.is_empty() { Phase::Idle } else { Phase::Reading });
        match self.seat.guest().read_request(&mut self.unread, &self.seat.house.budget) {
            Ok(request) => self.put(request).unwrap_or_else(|(conversation, error)| conversation.give_up(&error)),
            Err(Missing::Gone) => None,
            Err(Missing::Refused(refusal)) => self.refuse(refusal),
        }
    }

    /// Puts a request on a line. Where this thread receives the next call, if it is to; else the conversation is here
    /// again.
    fn put(mut self, Request { head, body, share }: Request) -> Result<Option<Arc<dyn Receive>>, (Self, io::Error)> {
        let house = Arc::clone(&self.seat.house);
        self.guest().enter(Phase::Working);
        let address = self.guest().address();
        let mut held = (share, house.turns.take(body.len()));
        loop {
            let mut line = match house.lines.take(&house) {
                Ok(line) => line,
                Err(error) => return Err((self, error)),
            };
            let (fresh, calls) = (!line.has_served(), Arc::clone(line.calls()));
            let is_long = body.len() > MAX_UNRECEIVED;
            if is_long && let Err(error) = hire(&house, &calls) {
                house.lines.give_back(line);
                return Err((self, error));
            }
            let sender = line.begin();
            let (closes, head_only) = (head.closes, head.method == "HEAD");
            let call = Call { conversation: self, line, closes, head_only, held };
            let number = house.calls.put(Awaited::Call(Box::new(call)));
            let sent = sender.send(number, &head, &body, address);
            drop(sender);
            let next = (!is_long).then(|| Arc::clone(&calls));
            let Err(error) = sent else { return Ok(next) };
            // A line that served before may have died since; then others are tried, a new one last. A call that has
            // been received all the same goes on with whoever has it.
            let Some(Awaited::Call(call)) = house.calls.take(number) else { return Ok(next) };
            if is_long {
                calls.release();
            }
            house.lines.retire(call.line);
            (self, held) = (call.conversation, call.held);
            if fresh {
                return Err((self, error));
            }
        }
    }

    /// Ends it because its call found no answer.
    fn give_up<T>(self, error: &io::Error) -> Option<T> {
        log::debug!("a call of {} was not answered: {error}", self.guest().address());
        self.refuse(BUSY)
    }

    /// Ends it with a last word.
    fn refuse<T>(self, refusal: Refusal) -> Option<T> {
        self.guest().refuse(refusal);
        None
    }

    fn guest(&self) -> &Guest {
        self.seat.guest()
    }
}

impl Call {
    /// Answers the guest. The conversation, if it goes on.
    fn finish(self, body: Body) -> Option<Conversation> {
        let Self { conversation, mut line, closes, head_only, held } = self;
        let house = &conversation.seat.house;
        let reply = match line.reply() {
            Ok(reply) => reply,
            Err(error) => {
                house.lines.retire(line);
                drop(held);
                return conversation.give_up(&error);
            }
        };
        house.lines.give_back(line);
        drop(held);
        let closes = closes || house.guests.is_crowded();
        let goes_on = conversation.guest().answer(reply, body, closes, head_only);
        goes_on.then_some(conversation)
    }
}

impl Calls {
    /// Awaits a greeting; its number.
    pub(super) fn await_greeting(&self) -> u64 {
        self.put(Awaited::Greeting)
    }

    /// Awaits a greeting no longer. Says whether it has not been received.
    pub(super) fn forget_greeting(&self, number: u64) -> bool {
        self.take(number).is_some()
    }

    fn put(&self, awaited: Awaited) -> u64 {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.awaited).insert(number, awaited);
        number
    }

    fn take(&self, number: u64) -> Option<Awaited> {
        lock(&self.awaited).remove(&number)
    }

    /// Drops the calls whose lines have died: nothing comes back over a line before its call has been received.
    pub(super) fn drop_lost(&self, house: &House) {
        let is_lost = |awaited: &mut Awaited| matches!(awaited, Awaited::Call(call) if call.line.is_heard());
        let lost: Vec<_> = lock(&self.awaited).extract_if(|_, awaited| is_lost(awaited)).collect();
        for (_, lost) in lost {
            let Awaited::Call(call) = lost else { continue };
            let Call { conversation, line, .. } = *call;
            log::debug!("a call of {} was lost", conversation.guest().address());
            drop(conversation);
            // One thread waits for it.
            line.calls().release();
            house.lines.retire(line);
        }
    }

    /// Drops all.
    pub(super) fn clear(&self) {
        let awaited = std::mem::take(&mut *lock(&self.awaited));
        drop(awaited);
    }
}
