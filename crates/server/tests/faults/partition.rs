//! Two servers as one, each on a machine of its own, while a link between them and what they share loses every packet.
//!
//! Three networks: one leads to the bus, one to the store, one to the clients. The bus and the store run here, and a
//! forwarder carries each connection from its network to them; what is cut is the link of a server to that network, so the
//! server's connections stay open and nobody hears of anything.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use outspoke_testkit::netns::{Machine, Network, Port};
use outspoke_testkit::services::{Etcd, Nats, Postgres, Redis};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::cluster::{Bus, CAUGHT_UP_WITHIN, ENOUGH, Quiet, Servers, Store};
use crate::crowd::Crowd;
use crate::host::{Host, binary};
use crate::rounds;

/// How long a server is cut off.
const AWAY: Duration = Duration::from_secs(30);
/// How long two servers that need not reach each other do not.
const APART: Duration = Duration::from_secs(10);
/// What was committed in the moment before may still be told.
const COMMITTED: Duration = Duration::from_millis(500);
/// Who waits for a last message reads nothing until there is one, not even pings.
const PATIENT: &str = "heartbeat:\n  ping_interval: 2m\n  pong_timeout: 5m\n";
/// The server that stays, and the one that is cut off.
const HERE: usize = 0;
const THERE: usize = 1;

/// What a server is cut off from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Bus,
    BusAndStore,
}

/// Where a server is plugged in.
struct Links {
    bus: Port,
    store: Port,
    clients: Port,
}

/// Everything there is. What is first here ends first.
struct Ground {
    servers: Servers,
    /// The forwarders, which end with this.
    _forwarders: JoinSet<()>,
    links: Vec<Links>,
    machines: Vec<Machine>,
    _networks: [Network; 3],
}

impl Ground {
    async fn lay(bus: &Bus, store: &Store) -> Self {
        let networks = [Network::new(), Network::new(), Network::new()];
        let [to_bus, to_store, to_clients] = &networks;
        let mut forwarders = JoinSet::new();
        let bus_at = forward(&mut forwarders, to_bus.address(), bus.addr()).await;
        let store_at = forward(&mut forwarders, to_store.address(), store.addr()).await;
        let (mut hosts, mut links, mut machines) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=2 {
            let settings = Servers::settings(number, bus, store)
                .replace(&bus.addr().to_string(), &bus_at.to_string())
                .replace(&store.addr().to_string(), &store_at.to_string());
            let machine = Machine::new();
            let link = Links {
                bus: machine.plug_into(to_bus),
                store: machine.plug_into(to_store),
                clients: machine.plug_into(to_clients),
            };
            let mut host = Host::new(&format!("{settings}{PATIENT}"));
            let mut command = host.command_of(machine.command(binary()));
            command.arg("--set").arg(format!("server.addr={}:0", link.clients.address()));
            host.start_as(command).await;
            hosts.push(host);
            links.push(link);
            machines.push(machine);
        }
        Self { servers: Servers { hosts }, _forwarders: forwarders, links, machines, _networks: networks }
    }

    /// Every link through which a server would be cut off.
    fn ports(&self, server: usize, from: From) -> Vec<&Port> {
        let Links { bus, store, .. } = &self.links[server];
        match from {
            From::Bus => vec![bus],
            From::BusAndStore => vec![bus, store],
        }
    }

    /// Whether one server's machine reaches the other server.
    async fn reaches(&self, from: usize, to: usize) -> bool {
        let address = self.servers.hosts[to].address().borrow().expect("it runs");
        let mut ask = self.machines[from].command(binary());
        ask.args(["healthcheck", "--timeout", "2s", "--url", &format!("http://{address}/health")]);
        ask.output().await.expect("it starts").status.success()
    }

    fn assert_running(&mut self) {
        for host in &mut self.servers.hosts {
            assert!(host.process().is_running(), "the servers go on");
        }
    }
}

/// Carries connections that arrive at an address to a service.
async fn forward(tasks: &mut JoinSet<()>, at: Ipv4Addr, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((at, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let Ok(mut service) = TcpStream::connect(to).await else { return };
                for stream in [&stream, &service] {
                    let _ = stream.set_nodelay(true);
                }
                // However it ends, it ends for both.
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut service).await;
            });
        }
    });
    address
}

/// The longest time in which a server acknowledged nothing, of so much.
async fn longest_silence(crowd: &Crowd, server: usize, time: Duration) -> Duration {
    let (begin, mut count, mut since, mut longest) = (Instant::now(), 0, Instant::now(), Duration::ZERO);
    while begin.elapsed() < time {
        let now = crowd.progress.acknowledged_by(server);
        if now > count {
            (count, since) = (now, Instant::now());
        }
        longest = longest.max(since.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    longest
}

/// How much more often each reason was given.
fn more(before: &BTreeMap<String, u64>, after: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = after.into_iter().map(|(reason, count)| {
        let earlier = before.get(&reason).copied().unwrap_or(0);
        (reason, count - earlier)
    });
    more.filter(|(_, count)| *count > 0).collect()
}

async fn cut_off(bus: Bus, store: Store, from: From) {
    let what = format!("{} for {AWAY:?} not reached by one of two servers ({from:?})", bus.name());
    let mut ground = Ground::lay(&bus, &store).await;
    let mut outward = Quiet::between(&ground.servers, HERE, THERE).await;
    let mut inward = Quiet::between(&ground.servers, THERE, HERE).await;
    let mut crowd = ground.servers.crowd();
    crowd.acknowledge(ENOUGH / 3).await;
    for _ in 0..rounds(1) {
        let refused = [HERE, THERE].map(|server| crowd.progress.refused_by(server));
        let begin = Instant::now();
        ground.ports(THERE, from).into_iter().for_each(Port::unplug);
        tokio::time::sleep(COMMITTED).await;
        let before = [HERE, THERE].map(|server| crowd.progress.acknowledged_by(server));
        let silence = longest_silence(&crowd, HERE, AWAY / 2).await;
        outward.say().await;
        match from {
            From::Bus => inward.say().await,
            From::BusAndStore => inward.say_in_vain(begin + AWAY).await,
        }
        tokio::time::sleep(AWAY.saturating_sub(begin.elapsed())).await;
        let after = [HERE, THERE].map(|server| crowd.progress.acknowledged_by(server));
        ground.ports(THERE, from).into_iter().for_each(Port::plug_in);

        let begin = Instant::now();
        let hears = async {
            outward.hear().await;
            begin.elapsed()
        };
        let is_heard = async {
            if from == From::BusAndStore {
                inward.insist().await;
            }
            let kept = begin.elapsed();
            inward.hear().await;
            (kept, begin.elapsed())
        };
        let caught_up =
            outspoke_testkit::within(CAUGHT_UP_WITHIN, async { tokio::join!(hears, is_heard) }).await;
        let taken = begin.elapsed();
        let refused = [HERE, THERE].map(|server| more(&refused[server], crowd.progress.refused_by(server)));
        println!(
            "{what}: acknowledged meanwhile {} here and {} there, refused {:?} here and {:?} there; here the longest time \
             without an acknowledgement {silence:.1?}; after the healing it heard, kept and was heard: {caught_up:.2?}",
            after[HERE] - before[HERE],
            after[THERE] - before[THERE],
            refused[HERE],
            refused[THERE],
        );
        assert!(after[HERE] > before[HERE], "the other server goes on");
        match from {
            From::Bus => {
                assert!(after[THERE] > before[THERE], "stored rooms need no bus to be acknowledged");
                assert_eq!(refused, [BTreeMap::new(), BTreeMap::new()], "the store was there all the time");
            }
            From::BusAndStore => {
                assert_eq!(after[THERE], before[THERE], "acknowledged what cannot be kept");
                assert_eq!(refused[HERE], BTreeMap::new(), "its store was there all the time");
                assert!(refused[THERE].keys().all(|reason| reason == "unavailable"), "{refused:?}");
            }
        }
        assert!(caught_up.is_some(), "{what}: not caught up {taken:.1?} after the healing");
    }
    let left = ENOUGH.saturating_sub(crowd.acknowledged()).max(500);
    crowd.acknowledge(left).await;
    ground.assert_running();
    let evidence = crowd.account().await;
    let stayed = evidence.accounts.iter().all(|account| account.connections == 1);
    assert!(stayed, "the links to the clients were never cut");
    evidence.judge(&what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_cut_off_from_etcd_and_store_loses_repeats_and_reorders_nothing() {
    let (bus, store) = tokio::join!(Etcd::start(), Postgres::start());
    cut_off(Bus::Etcd(bus), Store::Postgres(store), From::BusAndStore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_cut_off_from_redis_and_store_loses_repeats_and_reorders_nothing() {
    let (bus, store) = tokio::join!(Redis::start_with(&[]), Postgres::start());
    cut_off(Bus::Redis(bus), Store::Postgres(store), From::BusAndStore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_cut_off_from_nats_and_store_loses_repeats_and_reorders_nothing() {
    let (bus, store) = tokio::join!(Nats::start(), Redis::start());
    cut_off(Bus::Nats(bus), Store::Redis(store), From::BusAndStore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_cut_off_from_etcd_alone_loses_repeats_and_reorders_nothing() {
    let (bus, store) = tokio::join!(Etcd::start(), Redis::start());
    cut_off(Bus::Etcd(bus), Store::Redis(store), From::Bus).await;
}

/// Servers speak to each other over the bus and nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_cut_off_from_each_other_do_not_notice() {
    let (bus, store) = tokio::join!(Nats::start(), Postgres::start());
    let (bus, store) = (Bus::Nats(bus), Store::Postgres(store));
    let mut ground = Ground::lay(&bus, &store).await;
    let mut outward = Quiet::between(&ground.servers, HERE, THERE).await;
    let mut inward = Quiet::between(&ground.servers, THERE, HERE).await;
    let mut crowd = ground.servers.crowd();
    crowd.acknowledge(ENOUGH / 3).await;
    assert!(ground.reaches(HERE, THERE).await && ground.reaches(THERE, HERE).await, "there is a way");
    for Links { bus, store, clients } in &ground.links {
        [bus, store, clients].into_iter().for_each(Port::isolate);
    }
    let begin = Instant::now();
    assert!(!ground.reaches(HERE, THERE).await && !ground.reaches(THERE, HERE).await, "there is none now");
    let mut slowest = Duration::ZERO;
    while begin.elapsed() < APART {
        for quiet in [&mut outward, &mut inward] {
            let said = Instant::now();
            quiet.say().await;
            quiet.hear().await;
            slowest = slowest.max(said.elapsed());
        }
    }
    println!("servers apart: the slowest message from one to the other took {slowest:.1?}");
    let left = ENOUGH.saturating_sub(crowd.acknowledged()).max(500);
    crowd.acknowledge(left).await;
    ground.assert_running();
    let refused = [HERE, THERE].map(|server| crowd.progress.refused_by(server));
    assert_eq!(refused, [BTreeMap::new(), BTreeMap::new()], "nothing was missing");
    let evidence = crowd.account().await;
    assert!(evidence.accounts.iter().all(|account| account.connections == 1), "nobody was sent away");
    evidence.judge("servers cut off from each other");
}
