//! A node's life in its cluster: its heartbeat, its subscriptions, a look at its stores, its last words.
//!
//! Everything runs beside what is heard (`hear.rs`) and sent (the link), in one task, until the hub has ended.

use std::sync::Arc;
use std::time::Duration;

use outspoke_bus::Topic;
use tokio::time::{Instant, MissedTickBehavior};

use super::Cluster;
use super::hear::{hear, room_of};
use super::repair::{all_rooms, bring_news, compare, everywhere, find_last_words, look_for_news};
use crate::hub::Inner;
use crate::room::Room;

/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long subscriptions of one batch are waited for before the next batch is told to the bus.
const SUBSCRIBING: Duration = Duration::from_millis(50);

/// Runs a hub's part in its cluster until the hub has ended.
pub(crate) async fn run(hub: Arc<Inner>) {
    let Some(cluster) = &hub.cluster else { return };
    let Some(events) = cluster.take_events() else { return };
    for topic in [&cluster.everybody, &cluster.direct, &cluster.own] {
        cluster.topics.want(topic, true);
    }
    cluster.topics.want(&Topic::new("nodes").expect("it is a topic"), true);
    let working = async {
        tokio::join!(
            cluster.link.run(),
            hear(&hub, cluster, events),
            subscribe(&hub, cluster),
            beat(&hub, cluster),
            watch_stores(&hub, cluster),
            find_last_words(&hub, cluster),
            bring_news(&hub, cluster),
            hub.gossip(cluster)
        );
    };
    tokio::select! {
        () = working => {}
        () = ended(&hub) => {}
    }
    cluster.beat(&hub, true);
    cluster.link.close();
    // What is queued goes out, if the bus takes it.
    let last_words = async {
        cluster.link.run().await;
        let _ = cluster.link.bus().close().await;
    };
    drop(tokio::time::timeout(FAREWELL, last_words).await);
}

/// Waits until no client is left and everything is written.
async fn ended(hub: &Inner) {
    let (mut running, mut keeping) = (hub.running.subscribe(), hub.keeping.subscribe());
    // Whoever changes them is the hub, which is here.
    let _ = running.wait_for(|count| *count == 0).await;
    let _ = keeping.wait_for(|count| *count == 0).await;
}

/// Says that this node is there, and notices who is not any more.
async fn beat(hub: &Inner, cluster: &Cluster) {
    let every = cluster.options.heartbeat;
    let mut look = tokio::time::interval(every / 4);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = Instant::now();
    loop {
        look.tick().await;
        let now = Instant::now();
        if now >= next {
            cluster.beat(hub, false);
            next = now + every;
        }
        for (node, name) in cluster.nodes.take_silent(now) {
            tracing::warn!(%node, name, "a node is not heard of any more: its clients are in no room now");
            everywhere(hub, |room| room.node_gone(hub, node, false));
            cluster.repairs.miss_last_words();
        }
    }
}

/// Notices stores that were away or were emptied: what rooms believe of them is compared then, also where nothing is said.
async fn watch_stores(hub: &Arc<Inner>, cluster: &Cluster) {
    // By keeper: what the last look found, if there was one.
    let mut known: Vec<Option<Option<u64>>> = vec![None; hub.keepers.len()];
    let mut look = tokio::time::interval(cluster.options.heartbeat);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        for (keeper, known) in hub.keepers.iter().zip(&mut known) {
            let seed = tokio::time::timeout(hub.config().store_timeout, keeper.seed()).await;
            let seed = seed.ok().and_then(Result::ok);
            // The first look finds nothing to compare with. One that finds nobody is forgotten, so that the next is news.
            if seed.is_some() && known.as_ref().is_some_and(|known| *known != seed) {
                let of_keeper =
                    |room: &Arc<Room>| room.keeper.as_ref().is_some_and(|held| Arc::ptr_eq(held, keeper));
                compare(hub, all_rooms(hub).into_iter().filter(of_keeper).collect());
                look_for_news(cluster);
            }
            *known = Some(seed);
        }
    }
}

/// Tells the bus what this node listens to, and repairs what was missed until the bus has understood.
async fn subscribe(hub: &Arc<Inner>, cluster: &Cluster) {
    loop {
        let (wanted, unwanted) = cluster.topics.take().await;
        // Fails only when the bus is closed, and the hub with it.
        let _ = cluster.link.unsubscribe(&unwanted).await;
        if wanted.is_empty() {
            continue;
        }
        let (link, me) = (cluster.link.clone(), Arc::downgrade(hub));
        let mut subscribing = tokio::spawn(async move {
            if link.subscribe(&wanted).await.is_ok()
                && let Some(hub) = me.upgrade()
            {
                listened(&hub, &wanted);
            }
        });
        // One after the other where the bus is quick, and without waiting for one that is away.
        drop(tokio::time::timeout(SUBSCRIBING, &mut subscribing).await);
    }
}

/// From here on everything on these topics is heard.
fn listened(hub: &Arc<Inner>, topics: &[Topic]) {
    let rooms: Vec<_> = topics.iter().filter_map(|topic| room_of(hub, topic)).collect();
    for room in &rooms {
        room.meet(hub);
    }
    compare(hub, rooms);
}
