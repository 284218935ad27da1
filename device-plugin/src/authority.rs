//! The kubelet's connection to our registration socket, with an `:authority` that the server takes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use plasma_device_plugin_core::Authority;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// How much is read at once; no more than this and one frame is ever held.
const PIECE: usize = 16 << 10;

/// A connection whose bytes come through [`Authority`]; what is written goes as it is.
pub(crate) struct Mended<T> {
    connection: T,
    authority: Authority,
    /// What can be handed on, and how much of it was.
    ready: Vec<u8>,
    given: usize,
}

impl<T> Mended<T> {
    pub(crate) fn new(connection: T) -> Self {
        Self { connection, authority: Authority::default(), ready: Vec::new(), given: 0 }
    }

    /// Hands on as much as there is room for.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = &self.ready[self.given..];
        let now = &rest[..rest.len().min(buffer.remaining())];
        buffer.put_slice(now);
        self.given += now.len();
        if self.given == self.ready.len() {
            self.ready.clear();
            self.given = 0;
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Mended<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.ready.is_empty() {
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut this.connection).poll_read(context, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let taken = this.authority.take(piece.filled(), &mut this.ready);
            taken.map_err(|refused| io::Error::new(io::ErrorKind::InvalidData, refused))?;
        }
        this.give(buffer);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Mended<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

impl<T: Connected> Connected for Mended<T> {
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.connection.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plasma_device_plugin_core::Refused;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_stream::StreamExt as _;
    use tonic::{service::Routes, transport::Server};

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// POST http /a.B/C, `:authority` %2Fvar%2Flib, as the kubelet writes it.
    const BLOCK: &[u8] = b"\x83\x86\x44\x06/a.B/C\x41\x10%2Fvar%2Flib%2Fx\x5f\x10application/grpc";
    const HEADERS: u8 = 1;

    /// The kind of the frame with which a server answers on stream 1 what comes in such pieces.
    async fn answer<T>(connection: T, kubelet: DuplexStream, piece: usize) -> u8
    where
        T: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let incoming = tokio_stream::once(Ok::<_, io::Error>(connection)).chain(tokio_stream::pending());
        tokio::spawn(Server::builder().add_routes(Routes::default()).serve_with_incoming(incoming));
        let (mut answers, mut asks) = tokio::io::split(kubelet);
        let length = u8::try_from(BLOCK.len()).unwrap();
        let sent = [PREFACE, SETTINGS, &[0, 0, length, HEADERS, 0x5, 0, 0, 0, 1], BLOCK].concat();
        let ask = async {
            for piece in sent.chunks(piece) {
                asks.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let kind = async {
            loop {
                let mut head = [0; 9];
                answers.read_exact(&mut head).await.unwrap();
                let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
                answers.read_exact(&mut payload).await.unwrap();
                if head[8] == 1 {
                    break head[3];
                }
            }
        };
        let both = async { tokio::join!(ask, kind).1 };
        tokio::time::timeout(Duration::from_secs(10), both).await.expect("an answer")
    }

    #[tokio::test]
    async fn a_server_takes_what_the_kubelet_sends() {
        const RST_STREAM: u8 = 3;
        let (kubelet, ours) = duplex(1 << 16);
        assert_eq!(answer(ours, kubelet, 1 << 16).await, RST_STREAM, "without the change it doesn't");
        for piece in [1, 7, 1 << 16] {
            let (kubelet, ours) = duplex(1 << 16);
            assert_eq!(answer(Mended::new(ours), kubelet, piece).await, HEADERS, "in pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn a_small_buffer_is_given_all_of_it_bit_by_bit() {
        let (mut kubelet, ours) = duplex(1 << 16);
        kubelet.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
        drop(kubelet);
        let (mut ours, mut got, mut byte) = (Mended::new(ours), Vec::new(), [0; 1]);
        while ours.read(&mut byte).await.unwrap() == 1 {
            got.extend(byte);
        }
        assert_eq!(got, [PREFACE, SETTINGS].concat());
    }

    #[tokio::test]
    async fn what_is_refused_ends_the_connection_with_the_reason() {
        let (mut kubelet, ours) = duplex(1 << 16);
        let unfinished = [0, 0, 1, HEADERS, 0, 0, 0, 0, 1, 0x83];
        kubelet.write_all(&[PREFACE, &unfinished].concat()).await.unwrap();
        let fault = Mended::new(ours).read_to_end(&mut Vec::new()).await.expect_err("it is refused");
        assert_eq!(fault.to_string(), Refused::Continuation.to_string());
    }
}
