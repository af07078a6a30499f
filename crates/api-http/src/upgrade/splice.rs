//! A connection whose client began with HTTP/1.1, as HTTP/2 would have seen it from the start.
//!
//! INVARIANT: bytes of the client are passed on unchanged and in order; the only addition stands between its first frame
//! and what follows. Sources: RFC 9113 sections 3.4, 4.1, 6.2; RFC 7541 sections 5.1, 5.2, 6.2.2.

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http::header::HOST;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper::upgrade::Upgraded;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What every HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// Largest frame before anything else was agreed on.
const FRAME: usize = 16_384;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The frames that open stream 1 with this request and nothing behind it.
pub(crate) fn opening<B>(request: &Request<B>) -> Bytes {
    let mut block = Vec::with_capacity(512);
    let headers = request.headers();
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    literal(&mut block, ":method", request.method().as_str().as_bytes());
    literal(&mut block, ":scheme", b"http");
    if let Some(host) = headers.get(HOST) {
        literal(&mut block, ":authority", host.as_bytes());
    }
    literal(&mut block, ":path", target.as_bytes());
    for (name, value) in headers.iter().filter(|(name, _)| !super::is_of_connection(name)) {
        literal(&mut block, name.as_str(), value.as_bytes());
    }
    let mut frames = BytesMut::with_capacity(block.len() + 2 * FRAME_HEAD);
    let mut pieces = block.chunks(FRAME).peekable();
    let mut kind = (HEADERS, END_STREAM);
    while let Some(piece) = pieces.next() {
        let (kind, flags) = std::mem::replace(&mut kind, (CONTINUATION, 0));
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        frames.put_uint(piece.len() as u64, 3);
        frames.put_u8(kind);
        frames.put_u8(flags | last);
        frames.put_u32(1);
        frames.put_slice(piece);
    }
    frames.freeze()
}

/// A field as a literal that is not indexed, name and value in plain bytes.
fn literal(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.push(0);
    for text in [name.as_bytes(), value] {
        length(block, text.len());
        block.extend_from_slice(text);
    }
}

/// An integer behind a prefix of seven bits, the eighth being 0: no Huffman code.
fn length(block: &mut Vec<u8>, mut number: usize) {
    const PREFIX: usize = 127;
    if number < PREFIX {
        block.extend(u8::try_from(number));
        return;
    }
    block.push(127);
    number -= PREFIX;
    while number >= 128 {
        block.extend(u8::try_from(number % 128).map(|low| low | 128));
        number /= 128;
    }
    block.extend(u8::try_from(number));
}

/// The connection after the 101.
pub(super) struct Spliced {
    io: Upgraded,
    start: Start,
}

/// How far the client's side has got.
enum Start {
    /// Waiting for preface and first frame.
    Reading { read: BytesMut, opening: Bytes },
    /// To be handed on before what else arrives; empty in the end.
    Given(Bytes),
}

impl Spliced {
    pub(super) fn new(io: Upgraded, opening: Bytes) -> Self {
        Self {
            io,
            start: Start::Reading {
                read: BytesMut::with_capacity(512),
                opening,
            },
        }
    }
}

/// Preface, first frame, the opening of stream 1, the rest; `None` while the first frame is not complete.
fn spliced(read: &[u8], opening: &[u8]) -> Result<Option<Bytes>> {
    let known = read.len().min(PREFACE.len());
    if read.get(..known) != PREFACE.get(..known) {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "the client does not continue in HTTP/2",
        ));
    }
    let Some((preface, rest)) = read.split_at_checked(PREFACE.len()) else {
        return Ok(None);
    };
    let Some(&[high, middle, low]) = rest.first_chunk::<3>() else {
        return Ok(None);
    };
    let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    if length > FRAME {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "the client's first HTTP/2 frame is too large",
        ));
    }
    let Some((settings, rest)) = rest.split_at_checked(FRAME_HEAD + length) else {
        return Ok(None);
    };
    Ok(Some([preface, settings, opening, rest].concat().into()))
}

impl Read for Spliced {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<Result<()>> {
        let this = self.get_mut();
        while let Start::Reading { read, opening } = &mut this.start {
            let mut space = [0; 1024];
            let mut buffer = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.io).poll_read(cx, buffer.unfilled()))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
            read.extend_from_slice(buffer.filled());
            if let Some(given) = spliced(read, opening)? {
                this.start = Start::Given(given);
            }
        }
        match &mut this.start {
            Start::Given(given) if !given.is_empty() => {
                let length = given.len().min(into.remaining());
                into.put_slice(&given.split_to(length));
                Poll::Ready(Ok(()))
            }
            _ => Pin::new(&mut this.io).poll_read(cx, into),
        }
    }
}

impl Write for Spliced {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::{FRAME, PREFACE, length, opening, spliced};
    use http::Request;

    #[test]
    fn lengths() {
        // 1337 behind five bits is the example of RFC 7541 C.1.2; these are behind seven.
        for (number, bytes) in [
            (0, &[0][..]),
            (126, &[126]),
            (127, &[127, 0]),
            (255, &[127, 128, 1]),
            (1337, &[127, 186, 9]),
        ] {
            let mut block = Vec::new();
            length(&mut block, number);
            assert_eq!(block, bytes, "{number}");
        }
    }

    #[test]
    fn long_header_blocks_are_continued() {
        let request = Request::get("/x")
            .header("a", "v".repeat(FRAME + 1))
            .body(())
            .unwrap();
        let frames = opening(&request);
        assert_eq!(&frames[..9], [0, 0x40, 0, 1, 1, 0, 0, 0, 1]);
        let second = &frames[9 + FRAME..];
        assert_eq!(&second[3..9], [9, 4, 0, 0, 0, 1]);
        assert_eq!(
            second.len() - 9,
            usize::from(second[1]) << 8 | usize::from(second[2])
        );
    }

    #[test]
    fn the_opening_stands_behind_the_first_frame() {
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];
        let client = [PREFACE, &settings, b"more"].concat();
        for cut in 0..PREFACE.len() + settings.len() {
            assert_eq!(spliced(&client[..cut], b"OPEN").unwrap(), None, "{cut}");
        }
        assert_eq!(
            spliced(&client, b"OPEN").unwrap().unwrap(),
            [PREFACE, &settings, b"OPEN", b"more"].concat()
        );
        for broken in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[PREFACE, &[0xff, 0, 0, 4]].concat(),
        ] {
            assert!(spliced(broken, b"OPEN").is_err());
        }
    }
}
