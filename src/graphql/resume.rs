/// An event cursor that the transport brings with a request, beside the operation's variables: from
/// `Last-Event-ID`, or from the payload of `connection_init`. It goes before the `after` argument, because a
/// stock client that reconnects sends its old variables again.
///
/// Put into a request's data; read by the subscriptions that resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeCursor(pub String);
