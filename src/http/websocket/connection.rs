//! One connection: what comes in, what goes out, and when it ends.
//!
//! It is one task, which polls its operations itself: a response goes from the engine to the socket without a channel
//! between them. What is ready together leaves in one write. While a client does not read, nothing more is read from
//! it and no operation is polled, so that no more than one write buffer is ever held for it.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_graphql::{Data, Request};
use axum::body::Bytes;
use futures::{
    FutureExt,
    future::{self, BoxFuture},
};
use serde_json::Value;
use tungstenite::{Message, Utf8Bytes};

use super::{
    Server,
    close::CloseReason,
    message::ClientMessage,
    operations::{Operations, Turn},
    socket::Socket,
    subprotocol::Subprotocol,
    timers::{Heartbeat, Pulse, Rate},
    wake::Source,
};
use crate::{
    error::Error,
    graphql::{GraphqlService, ResumeCursor},
    http::{
        access::{Caller, INIT_NEEDS_TOKEN},
        alarm::Alarm,
        operation::{Outcome, failure},
    },
};

/// How many messages are read and sent before other tasks have their turn.
const MAX_TURNS: usize = 64;
/// How long saying goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How a connection ends.
#[derive(Debug)]
enum End {
    /// The server closes it.
    Close(CloseReason),
    /// The same, and no more can be read.
    Broken(CloseReason),
    /// The client closes it.
    Closed,
    /// Nobody is there.
    Lost,
}

/// How far the connection has come.
enum Phase {
    Waiting,
    Admitting(BoxFuture<'static, Result<Data, String>>),
    Acknowledged(Arc<Data>),
}

pub(super) struct Connection<S> {
    socket: Socket,
    protocol: Subprotocol,
    /// From the request that became this connection.
    caller: Caller,
    server: Arc<Server<S>>,
    phase: Phase,
    /// From the payload of `connection_init`, by operation id. Each is used once.
    cursors: HashMap<String, String>,
    operations: Operations,

    reading: Waker,
    readable: bool,
    writing: Waker,
    /// Something was sent that may not have left yet.
    unflushed: bool,
    /// What was sent cannot leave: the client does not read.
    blocked: bool,
    control: Waker,
    /// Deadlines came up while blocked.
    postponed: bool,

    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
    draining: bool,
    init_deadline: Alarm,
    write_deadline: Alarm,
    heartbeat: Heartbeat,
    /// For a message that is a sign of life.
    keep_alive: Alarm,
    rate: Rate,
}

impl<S: GraphqlService> Connection<S> {
    pub(super) fn new(socket: Socket, protocol: Subprotocol, caller: Caller, server: Arc<Server<S>>) -> Box<Self> {
        let operations = Operations::default();
        let (context, options) = (&server.context, &server.options);
        let waker = |source| operations.wakes().waker(source);
        let mut init_deadline = Alarm::default();
        init_deadline.set(&*context.clock, Duration::from_millis(options.init_timeout_ms));
        Box::new(Self {
            phase: Phase::Waiting,
            cursors: HashMap::new(),
            reading: waker(Source::Reading),
            readable: false,
            writing: waker(Source::Writing),
            unflushed: false,
            blocked: false,
            control: waker(Source::Control),
            postponed: false,
            stopping: Box::pin(context.shutdown.soft().clone().cancelled_owned()),
            draining: false,
            init_deadline,
            write_deadline: Alarm::default(),
            heartbeat: Heartbeat::new(context.clock.clone(), options),
            rate: Rate::new(options.max_messages_per_second, context.clock.elapsed()),
            keep_alive: Alarm::default(),
            operations,
            socket,
            protocol,
            caller,
            server,
        })
    }

    /// Serves the client until one of both ends it.
    pub(super) async fn run(mut self: Box<Self>) {
        let end = poll_fn(|cx| self.poll(cx)).await;
        tracing::debug!(?end, "a WebSocket ends");
        // What produces their responses has to stop now, however long the goodbye takes.
        self.operations = Operations::default();
        let Self { socket, server, .. } = &mut *self;
        match end {
            End::Close(reason) => close(socket, server, &reason, true).await,
            End::Broken(reason) => close(socket, server, &reason, false).await,
            End::Closed => finish(socket, server).await,
            End::Lost => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.operations.wakes().register(cx.waker());
        for _ in 0..MAX_TURNS {
            match self.turn(cx.waker()) {
                Ok(true) => {}
                Ok(false) => return self.flush().map_or_else(Poll::Ready, |()| Poll::Pending),
                Err(end) => return Poll::Ready(end),
            }
        }
        cx.waker().wake_by_ref();
        self.flush().map_or_else(Poll::Ready, |()| Poll::Pending)
    }

    /// Reads a message and sends one, if there are any; whether there may be more.
    fn turn(&mut self, task: &Waker) -> Result<bool, End> {
        if self.woke(Source::Control) || (self.postponed && !self.blocked) {
            self.control()?;
        }
        if self.draining && !self.operations.owe_answers() {
            return Err(End::Close(CloseReason::Restart));
        }
        if !self.can_send()? {
            return Ok(false);
        }
        let read = self.read()?;
        let sent = match self.operations.next(task, |turn| message(self.protocol, turn)) {
            Some(message) => self.send_text(message?).map(|()| true)?,
            None => false,
        };
        Ok(read || sent || self.operations.may_be_ready())
    }

    fn woke(&self, source: Source) -> bool {
        self.operations.wakes().take(source)
    }

    /// What does not come from the client or an operation: deadlines, admission, and the server's end.
    fn control(&mut self) -> Result<(), End> {
        let waker = self.control.clone();
        let cx = &mut Context::from_waker(&waker);
        while self.stopping.poll_unpin(cx).is_ready() {
            if self.draining {
                return Err(End::Close(CloseReason::Restart));
            }
            self.draining = true;
            self.operations.drop_subscriptions();
            self.stopping = Box::pin(self.server.context.shutdown.hard().clone().cancelled_owned());
        }
        if self.write_deadline.has_come(cx) {
            return Err(End::Lost);
        }
        self.postponed = self.blocked;
        if self.blocked {
            return Ok(());
        }
        if let Phase::Admitting(admission) = &mut self.phase
            && let Poll::Ready(admitted) = admission.poll_unpin(cx)
        {
            match admitted {
                Ok(session) => {
                    self.phase = Phase::Acknowledged(Arc::new(session));
                    self.send_text(self.protocol.ack())?;
                    self.keep_alive()?;
                }
                Err(reason) => return Err(self.refused(CloseReason::Forbidden(reason))),
            }
        }
        if self.keep_alive.has_come(cx) {
            self.keep_alive()?;
        }
        if self.init_deadline.has_come(cx) {
            return Err(End::Close(CloseReason::InitTimeout));
        }
        match self.heartbeat.poll(cx) {
            Pulse::Fine => Ok(()),
            Pulse::Ping => self.send(Message::Ping(Bytes::new())),
            Pulse::Lost => Err(End::Lost),
        }
    }

    /// Sends a sign of life, where that is a message, and again after a while.
    fn keep_alive(&mut self) -> Result<(), End> {
        let Some(message) = self.protocol.keep_alive() else { return Ok(()) };
        self.keep_alive.set(&*self.server.context.clock, Duration::from_millis(self.server.options.ping_interval_ms));
        // The alarm has to know whom to wake.
        self.keep_alive.has_come(&mut Context::from_waker(&self.control));
        self.send_text(message)
    }

    /// The end of a connection that is not admitted.
    fn refused(&mut self, reason: CloseReason) -> End {
        if let Some(message) = self.protocol.refusal(&reason)
            && let Err(end) = self.send_text(message)
        {
            return end;
        }
        End::Close(reason)
    }

    /// Reads a message, if there is one; whether there was.
    fn read(&mut self) -> Result<bool, End> {
        self.readable |= self.woke(Source::Reading);
        let waits = !self.protocol.awaits_acknowledgement() && matches!(self.phase, Phase::Admitting(_));
        if !self.readable || waits {
            return Ok(false);
        }
        let cx = &mut Context::from_waker(&self.reading);
        match self.socket.poll_next(cx) {
            Poll::Pending => {
                self.readable = false;
                Ok(false)
            }
            Poll::Ready(Some(Ok(message))) => self.on_frame(message).map(|()| true),
            Poll::Ready(Some(Err(error))) => Err(self.broken(&error)),
            Poll::Ready(None) => Err(End::Lost),
        }
    }

    fn on_frame(&mut self, message: Message) -> Result<(), End> {
        let now = self.server.context.clock.elapsed();
        self.heartbeat.hear(now);
        if !self.rate.admits(now) {
            return Err(End::Close(CloseReason::Overload("max_messages_per_second")));
        }
        match message {
            Message::Text(text) => self.on_message(self.protocol.decode(&text).map_err(End::Close)?),
            Message::Binary(_) => Err(End::Close(CloseReason::BadMessage("text is expected".to_owned()))),
            // The answer is queued already.
            Message::Ping(_) => {
                self.unflushed = true;
                Ok(())
            }
            Message::Pong(_) | Message::Frame(_) => Ok(()),
            Message::Close(_) => Err(End::Closed),
        }
    }

    fn on_message(&mut self, message: ClientMessage) -> Result<(), End> {
        match message {
            ClientMessage::Init(payload) => self.init(payload),
            ClientMessage::Ping(payload) => self.send_text(self.protocol.pong(payload.as_deref())),
            ClientMessage::Pong => Ok(()),
            ClientMessage::Subscribe { id, request } => self.subscribe(id, *request),
            ClientMessage::Complete { id } => {
                self.operations.remove(&id);
                Ok(())
            }
            ClientMessage::Terminate => Err(End::Close(CloseReason::Done)),
        }
    }

    fn init(&mut self, payload: Option<Value>) -> Result<(), End> {
        if !matches!(self.phase, Phase::Waiting) {
            return Err(End::Close(CloseReason::SecondInit));
        }
        self.init_deadline.clear();
        if self.caller == Caller::Unknown && !self.server.access.knows(payload.as_ref()) {
            return Err(self.refused(CloseReason::Forbidden(INIT_NEEDS_TOKEN.to_owned())));
        }
        if let Some(cursors) = payload.as_ref().and_then(|payload| payload.get("cursors")) {
            self.cursors = read_cursors(cursors).map_err(End::Close)?;
        }
        self.phase = Phase::Admitting((self.server.context.on_connect)(payload));
        self.postponed = true;
        Ok(())
    }

    fn subscribe(&mut self, id: String, mut request: Request) -> Result<(), End> {
        let Phase::Acknowledged(session) = &self.phase else {
            return Err(End::Close(CloseReason::NotAcknowledged));
        };
        if self.protocol.replaces_operations() {
            self.operations.remove(&id);
        }
        if self.operations.contains(&id) {
            return Err(End::Close(CloseReason::DuplicateId(id)));
        }
        if self.draining {
            // The client asks again after it has connected again.
            return Ok(());
        }
        let json_id: Box<str> = Value::from(id.as_str()).to_string().into();
        let max_operations = self.server.options.max_operations;
        if self.operations.len() >= max_operations {
            let allowed = format!("{max_operations} operations at the same time on one connection");
            let outcome = Outcome::RequestError(failure(Error::limit("max_operations", allowed)));
            return self.send_text(message(self.protocol, Turn::Outcome(&json_id, outcome))?);
        }
        if let Some(cursor) = self.cursors.remove(&id) {
            request.data.insert(ResumeCursor(cursor));
        }
        let operation = self.server.engine.start(request, Some(session.clone()));
        self.operations.insert(id, json_id, operation);
        Ok(())
    }

    fn send_text(&mut self, text: Utf8Bytes) -> Result<(), End> {
        self.send(Message::Text(text))
    }

    /// Puts a message into the write buffer.
    fn send(&mut self, message: Message) -> Result<(), End> {
        self.unflushed = true;
        let cx = &mut Context::from_waker(&self.writing);
        self.socket.start_send(message, cx).map_err(|_| End::Lost)
    }

    /// Whether the write buffer has room. When it has none, that is because the client does not read.
    fn can_send(&mut self) -> Result<bool, End> {
        // Taken before writing is polled: what wakes it afterwards has to wake the task.
        let woke = self.woke(Source::Writing);
        if self.blocked && !woke {
            return Ok(false);
        }
        let cx = &mut Context::from_waker(&self.writing);
        let polled = match self.blocked {
            true => self.socket.poll_flush(cx),
            false => self.socket.poll_ready(cx),
        };
        self.wrote(&polled).map(|()| !self.blocked)
    }

    /// Sends what is in the write buffer.
    fn flush(&mut self) -> Result<(), End> {
        if self.blocked || !self.unflushed {
            return Ok(());
        }
        self.woke(Source::Writing);
        let polled = self.socket.poll_flush(&mut Context::from_waker(&self.writing));
        self.unflushed = polled.is_pending();
        self.wrote(&polled)
    }

    /// Notes how writing went. A client that does not read gets a deadline, and a new one whenever some could be written:
    /// a large message may take its time.
    fn wrote(&mut self, polled: &Poll<Result<(), tungstenite::Error>>) -> Result<(), End> {
        match polled {
            Poll::Ready(Ok(())) => {
                if self.blocked {
                    (self.blocked, self.unflushed) = (false, false);
                    self.write_deadline.clear();
                }
                Ok(())
            }
            Poll::Ready(Err(_)) => Err(End::Lost),
            Poll::Pending => {
                self.blocked = true;
                let timeout = Duration::from_millis(self.server.options.write_timeout_ms);
                self.write_deadline.set(&*self.server.context.clock, timeout);
                match self.write_deadline.has_come(&mut Context::from_waker(&self.control)) {
                    true => Err(End::Lost),
                    false => Ok(()),
                }
            }
        }
    }

    /// Why nothing more can be read.
    fn broken(&self, error: &tungstenite::Error) -> End {
        use tungstenite::error::{Error, ProtocolError};
        match error {
            Error::Capacity(_) => End::Broken(CloseReason::MessageTooLarge(self.server.options.max_message_bytes)),
            Error::Utf8(_) => End::Broken(CloseReason::NotUtf8),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Lost,
            Error::Protocol(_) => End::Broken(CloseReason::Protocol),
            _ => End::Lost,
        }
    }
}

/// What an operation has to say, as a message.
fn message(protocol: Subprotocol, turn: Turn<'_>) -> Result<Utf8Bytes, End> {
    match turn {
        Turn::End(id) => Ok(protocol.complete(id)),
        Turn::Outcome(id, outcome) => protocol.outcome(id, &outcome).map_err(|error| {
            tracing::error!("a response is no JSON: {error}");
            End::Lost
        }),
    }
}

/// Closes a connection: the client's answer is awaited, and while it can be read, what was still on its way is read,
/// so that the reason reaches the client.
pub(super) async fn close<S>(socket: &mut Socket, server: &Server<S>, reason: &CloseReason, can_read: bool) {
    let goodbye = async {
        let said = socket.send(Message::Close(Some(reason.frame()))).await;
        while said.is_ok() && can_read && matches!(socket.next().await, Some(Ok(_))) {}
        if said.is_ok() && !can_read {
            future::pending::<()>().await;
        }
    };
    future::select(std::pin::pin!(goodbye), server.context.clock.sleep(CLOSE_TIMEOUT)).await;
}

/// Lets the answer to the client's goodbye leave.
async fn finish<S>(socket: &mut Socket, server: &Server<S>) {
    let goodbye = async { while matches!(socket.next().await, Some(Ok(_))) {} };
    future::select(std::pin::pin!(goodbye), server.context.clock.sleep(CLOSE_TIMEOUT)).await;
}

/// `{"<operation id>": "<cursor>"}`; null stands for none.
fn read_cursors(cursors: &Value) -> Result<HashMap<String, String>, CloseReason> {
    let wrong = || CloseReason::BadMessage("`cursors` must map operation ids to cursors".to_owned());
    let cursors = match cursors {
        Value::Null => return Ok(HashMap::new()),
        Value::Object(cursors) => cursors,
        _ => return Err(wrong()),
    };
    let mut read = HashMap::with_capacity(cursors.len());
    for (id, cursor) in cursors {
        match cursor {
            Value::Null => {}
            Value::String(cursor) => drop(read.insert(id.clone(), cursor.clone())),
            _ => return Err(wrong()),
        }
    }
    Ok(read)
}
