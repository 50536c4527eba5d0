//! Frames that no client may send: each ends its connection with the code that the codec documents.

use outspoke_testkit::{Connect, Received, TcpClient};

use super::{Bystanders, codec};
use crate::support::Server;

pub(super) async fn play(server: &Server, bystanders: &mut Bystanders<'_>) -> usize {
    let cases = codec::frame_cases();
    for case in &cases {
        let mut client = connect(server, case.deflate).await;
        // A server that refuses a long frame at its header does not take the rest.
        client.send_raw(&case.bytes).await;
        assert_eq!(closed(&mut client, &case.name).await, Some(case.close_code), "{}", case.name);
        bystanders.are_well(&case.name).await;
    }
    cases.len()
}

async fn connect(server: &Server, deflate: bool) -> TcpClient {
    let connect = Connect::to(server.addr, "/ws?userId=rude&username=Rude&join=none");
    let connect = if deflate { connect.compression() } else { connect };
    let (mut client, established) = connect.establish().await.unwrap();
    assert_eq!(established.deflate.is_some(), deflate);
    client.expect("welcome").await;
    client
}

/// The close code; before it may come the answers to what was valid. After it comes nothing but the end.
async fn closed(client: &mut TcpClient, case: &str) -> Option<u16> {
    let code = loop {
        match client.next().await {
            Received::Close { code, reason } => {
                assert!(
                    !reason.is_empty() && reason.len() <= 123,
                    "{case}: a close frame says why: {reason:?}"
                );
                break code;
            }
            Received::End => panic!("{case}: the stream ended without a close frame"),
            _ => {}
        }
    };
    assert_eq!(client.next().await, Received::End, "{case}");
    code
}
