//! WebSocket itself, frame by frame: what may be sent, and what no sane client sends.

use std::time::Duration;

use meanwhile::http::{HttpOptions, websocket::WebsocketOptions};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{raw::Raw, socket::Socket, toy::ToyServer};

const PROTOCOL: &str = "graphql-transport-ws";

/// Of a frame's first byte: it is the last one of its message.
const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

async fn limited(change: impl FnOnce(&mut WebsocketOptions)) -> ToyServer {
    let mut options = HttpOptions::default();
    change(&mut options.websocket);
    ToyServer::with(options, |_| {}).await
}

/// A client's frame: masked, with a mask that changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len() as u64);
    frame.extend_from_slice(payload);
    frame
}

/// What stands before the payload of a client's frame.
fn head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(0x80 | u8::try_from(length).unwrap()),
        126..65536 => {
            head.push(0x80 | 126);
            head.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend_from_slice(&length.to_be_bytes());
        }
    }
    head.extend_from_slice(&[0; 4]);
    head
}

#[tokio::test]
async fn a_message_in_fragments_is_one_and_control_frames_may_stand_between_them() {
    let server = ToyServer::start().await;
    let mut socket = Socket::ready(server.address).await;
    let text = r#"{"type":"ping","payload":{"é":"✓"}}"#.as_bytes();
    // Byte by byte, so also in the middle of a character.
    for (place, byte) in text.iter().enumerate() {
        let opcode = if place == 0 { TEXT } else { CONTINUATION };
        let last = if place + 1 == text.len() { FIN } else { 0 };
        socket.send_bytes(&frame(last | opcode, &[*byte])).await;
        if place == 20 {
            socket.send_bytes(&frame(FIN | PING, b"still there?")).await;
            assert_eq!(socket.frame().await, Some(Message::Pong("still there?".into())));
        }
    }
    assert_eq!(socket.next().await, json!({ "type": "pong", "payload": { "é": "✓" } }));
}

#[tokio::test]
async fn what_is_no_frame_closes_with_1002() {
    let server = ToyServer::start().await;
    let ping = br#"{"type":"ping"}"#;
    let mut unmasked = vec![FIN | TEXT, 15];
    unmasked.extend_from_slice(ping);
    for (what, bytes) in [
        ("not masked", unmasked),
        ("compressed, which was not agreed on", frame(FIN | 0x40 | TEXT, ping)),
        ("a reserved bit", frame(FIN | 0x20 | TEXT, ping)),
        ("a reserved kind of frame", frame(FIN | 3, ping)),
        ("a reserved kind of control frame", frame(FIN | 11, b"")),
        ("a control frame of more than 125 bytes", frame(FIN | PING, &[b'x'; 126])),
        ("a close frame of more than 125 bytes", frame(FIN | CLOSE, &[3; 126])),
        ("a control frame in fragments", frame(PING, b"x")),
        ("a continuation of nothing", frame(FIN | CONTINUATION, ping)),
        ("a message within another", [frame(TEXT, b"{"), frame(FIN | TEXT, ping)].concat()),
        ("half a code in a close frame", frame(FIN | CLOSE, &[3])),
        ("a code that must not be sent", frame(FIN | CLOSE, &1005_u16.to_be_bytes())),
        ("a code that is none", frame(FIN | CLOSE, &999_u16.to_be_bytes())),
    ] {
        let mut socket = Socket::ready(server.address).await;
        socket.subscribe("1", "subscription { silence }").await;
        server.hands.live_streams(1).await;
        socket.send_bytes(&bytes).await;
        assert_eq!(socket.close_code().await, 1002, "{what}");
        server.hands.live_streams(0).await;
    }
}

#[tokio::test]
async fn text_that_is_not_utf_8_closes_with_1007() {
    let server = ToyServer::start().await;
    for bytes in [
        frame(FIN | TEXT, b"{\"type\":\"ping\",\"payload\":{\"x\":\"\xff\"}}"),
        // The first half of a character, and nothing more.
        [frame(TEXT, b"\xc3"), frame(FIN | CONTINUATION, b"")].concat(),
        // A surrogate, which has no place in UTF-8.
        frame(FIN | TEXT, b"\"\xed\xa0\x80\""),
    ] {
        let mut socket = Socket::ready(server.address).await;
        socket.send_bytes(&bytes).await;
        assert_eq!(socket.closed().await, (1007, "Text must be UTF-8".to_owned()));
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_before_it_has_come_and_also_in_fragments() {
    let server = limited(|options| options.max_message_bytes = 1_000).await;
    let refused = (1009, "Over max_message_bytes, which is 1000".to_owned());
    for length in [1_001, 1 << 16, 1 << 40, u64::MAX >> 1] {
        let mut socket = Socket::ready(server.address).await;
        socket.send_bytes(&head(FIN | TEXT, length)).await;
        assert_eq!(socket.closed().await, refused, "{length}");
    }
    let mut socket = Socket::ready(server.address).await;
    for opcode in [TEXT, CONTINUATION] {
        socket.send_bytes(&frame(opcode, &[b' '; 500])).await;
        assert!(matches!(ping(&mut socket).await, Some(Message::Pong(_))));
    }
    socket.send_bytes(&frame(CONTINUATION, b" ")).await;
    assert_eq!(socket.closed().await, refused);
}

/// Sends a ping frame; what comes next.
async fn ping(socket: &mut Socket) -> Option<Message> {
    socket.send_bytes(&frame(FIN | PING, b"")).await;
    socket.frame().await
}

#[tokio::test]
async fn control_frames_count_as_messages_too() {
    let server = limited(|options| options.max_messages_per_second = 5).await;
    let mut socket = Socket::connect(server.address, PROTOCOL).await;
    for _ in 0..5 {
        assert!(matches!(ping(&mut socket).await, Some(Message::Pong(_))));
    }
    socket.send_bytes(&frame(FIN | PING, b"")).await;
    assert_eq!(socket.closed().await, (1013, "Over max_messages_per_second, try again later".to_owned()));
}

#[tokio::test]
async fn a_frame_that_never_ends_is_no_sign_of_life() {
    let server = limited(|options| (options.ping_interval_ms, options.pong_timeout_ms) = (1_000, 400)).await;
    let mut socket = Socket::ready(server.address).await;
    socket.subscribe("1", "subscription { silence }").await;
    server.hands.live_streams(1).await;
    socket.send_bytes(&head(FIN | TEXT, 100)).await;
    while *server.hands.streams.borrow() > 0 {
        socket.send_bytes(b" ").await;
        server.clock.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    assert_eq!(socket.closed().await.0, 1006);
}

#[tokio::test]
async fn offers_of_extensions_are_not_taken() {
    let server = ToyServer::start().await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame\r\n";
    let mut raw = upgrade(&server, &format!("Sec-WebSocket-Protocol: {PROTOCOL}\r\n{offer}")).await;
    assert_eq!((raw.status, raw.header("sec-websocket-extensions")), (101, ""));
    raw = upgrade(&server, &format!("Sec-WebSocket-Protocol: {PROTOCOL}\r\n")).await;
    assert_eq!((raw.status, raw.header("sec-websocket-protocol")), (101, PROTOCOL));
}

const UPGRADE: &str = "GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

async fn upgrade(server: &ToyServer, headers: &str) -> Raw {
    Raw::send(server.address, format!("{UPGRADE}{headers}\r\n")).await
}

#[tokio::test]
async fn subprotocols_are_found_in_several_headers_in_any_order_and_by_their_exact_names() {
    let server = ToyServer::start().await;
    for (headers, spoken) in [
        (&["graphql-transport-ws"][..], "graphql-transport-ws"),
        (&["soap", "graphql-transport-ws"], "graphql-transport-ws"),
        (&["graphql-ws", "graphql-transport-ws"], "graphql-transport-ws"),
        (&["graphql-transport-ws", "graphql-ws"], "graphql-transport-ws"),
        (&["soap,graphql-ws", "wamp ,\tgraphql-transport-ws"], "graphql-transport-ws"),
        (&["wamp, graphql-ws"], "graphql-ws"),
        (&[",, graphql-ws ,,"], "graphql-ws"),
        // Names of subprotocols are told apart by case.
        (&["GraphQL-Transport-WS", "graphql-ws"], "graphql-ws"),
        (&["GRAPHQL-WS"], ""),
        (&["graphql-ws2, xgraphql-ws"], ""),
        (&["\"graphql-ws\""], ""),
    ] {
        let headers: String = headers.iter().map(|value| format!("Sec-WebSocket-Protocol: {value}\r\n")).collect();
        let raw = upgrade(&server, &headers).await;
        assert_eq!((raw.status, raw.header("sec-websocket-protocol")), (101, spoken), "{headers}");
    }
}

#[tokio::test]
async fn what_comes_in_one_piece_with_the_request_is_read() {
    let server = ToyServer::start().await;
    let message = |value: Value| frame(FIN | TEXT, value.to_string().as_bytes());
    let request = format!("{UPGRADE}Sec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n");
    let init = message(json!({ "type": "connection_init" }));
    let ping = message(json!({ "type": "ping" }));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[request.as_bytes(), &init, &ping].concat()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(br#"{"type":"pong"}"#) && !answer.ends_with(br#"{"type":"connection_ack"}"#) {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
}

#[tokio::test]
async fn a_request_to_upgrade_that_is_not_whole_is_400_or_426() {
    let server = ToyServer::start().await;
    let without =
        |name: &str| -> String { UPGRADE.split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect() };
    for (request, status) in [
        (without("Sec-WebSocket-Key"), 400),
        (without("Sec-WebSocket-Version"), 400),
        (without("Connection"), 400),
        (UPGRADE.replace("Version: 13", "Version: 8"), 400),
        (UPGRADE.replace("HTTP/1.1", "HTTP/1.0"), 426),
        // No WebSocket, but a request without a document.
        (UPGRADE.replace("Upgrade: websocket", "Upgrade: h2c"), 400),
        (UPGRADE.replace("GET ", "POST "), 415),
    ] {
        let raw = Raw::send(server.address, format!("{request}\r\n")).await;
        assert_eq!(raw.status, status, "{request}");
    }
    assert_eq!(server.context.connections.open(), 0);
}
