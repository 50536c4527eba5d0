#!/bin/sh
# Sends all clients of a cluster from its blue nodes to its green ones, or back: `switch.sh green`, `switch.sh blue`.
#
# docs/operating/blue-green.md explains it. Five steps; each says what it does and, if it fails, what to do. Steps 1 and 2 change
# nothing for any client. Repeating the whole is harmless. What it needs comes from the environment:
#
#   BALANCER      haproxy or nginx
#   BLUE, GREEN   the nodes of each side, as name=address: "blue-1=http://blue-1:8080 blue-2=http://blue-2:8080"
#   SIDE_FILE     what the balancer reads the side from       [/etc/haproxy/outspoke-side.map, /etc/nginx/side.conf]
#   CHECK         says whether the balancer's files are right [haproxy -c -q -f /etc/haproxy/haproxy.cfg, nginx -t -q]
#   RELOAD        lets the balancer read them                 [systemctl reload haproxy, systemctl reload nginx]
#   PUBLIC        the balancer's address, asked after the switch               [http://127.0.0.1:8080]
#   OUTSPOKE      the program; OUTSPOKE_API__KEYS holds a key for its API      [outspoke]
#   READY_SECONDS how long nodes may take to be ready                          [60]
#   DRAIN         options of `outspoke cluster drain`, as "--batch 200"        [none]
#   DRAIN_WAIT    how long the old side may take to become empty               [60s]
set -eu

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "FAILED: $1"
    say "  to do: $2"
    exit 1
}

to=${1-}
case $to in
    blue) from=green ;;
    green) from=blue ;;
    *) fail "say to which side: $0 blue, or $0 green" "run it again; nothing was changed" ;;
esac
: "${BALANCER:?haproxy or nginx}" "${BLUE:?the blue nodes, as name=address}" "${GREEN:?the green nodes, as name=address}"
if [ "$to" = green ]; then new=$GREEN old=$BLUE; else new=$BLUE old=$GREEN; fi
case $BALANCER in
    haproxy)
        side_file=${SIDE_FILE:-/etc/haproxy/outspoke-side.map}
        check=${CHECK:-haproxy -c -q -f /etc/haproxy/haproxy.cfg}
        reload=${RELOAD:-systemctl reload haproxy}
        side_line() { printf 'side %s\n' "$1"; }
        ;;
    nginx)
        side_file=${SIDE_FILE:-/etc/nginx/side.conf}
        check=${CHECK:-nginx -t -q}
        reload=${RELOAD:-systemctl reload nginx}
        # The variable is nginx's.
        # shellcheck disable=SC2016
        side_line() { printf 'map "" $side { default %s; }\n' "$1"; }
        ;;
    *) fail "BALANCER is $BALANCER" "set it to haproxy or nginx; nothing was changed" ;;
esac
public=${PUBLIC:-http://127.0.0.1:8080}
outspoke=${OUTSPOKE:-outspoke}
ready_seconds=${READY_SECONDS:-60}

answers() { "$outspoke" healthcheck --url "$1" >/dev/null 2>&1; }
# Asks until the answer is good or the time is over: `patiently URL`.
patiently() {
    left=$ready_seconds
    until answers "$1"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 1
    done
}

# Written beside it and moved there: the balancer never reads half a line.
write_side() {
    side_line "$1" >"$side_file.new" && mv "$side_file.new" "$side_file"
}

first=${new%% *}
say "1/5 $to takes clients (again, if it was drained before)"
for node in $new; do
    "$outspoke" cluster resume "${node%%=*}" --server "${node#*=}" ||
        fail "node ${node%%=*} does not take the order" "start it, or correct $to's nodes and OUTSPOKE_API__KEYS; all clients are still on $from"
done

say "2/5 every node of $to is ready, and hears the others"
for node in $new; do
    patiently "${node#*=}/readyz" ||
        fail "node ${node%%=*} is not ready at ${node#*=}" "look at its log; all clients are still on $from"
done
"$outspoke" cluster check --server "${first#*=}" ||
    fail "not every node reaches every other" "docs/operating/cluster.md tells what to look at; all clients are still on $from"

say "3/5 the balancer sends new connections to $to"
write_side "$to" || fail "$side_file cannot be written" "run this as a user who may; all clients are still on $from"
$check || {
    write_side "$from"
    fail "the balancer's files are wrong ($check)" "correct them; $side_file names $from again, and all clients are still there"
}
$reload || {
    write_side "$from"
    fail "the balancer was not reloaded ($reload)" "see its log; $side_file names $from again: reload by hand to be sure that it goes by that"
}

say "4/5 the balancer has changed: nodes of $to answer through it"
# A reload takes a moment, in which both sides may answer.
through() {
    seen=$("$outspoke" cluster nodes --server "$public" 2>/dev/null) || return 1
    for node in $new; do
        case $seen in *"${node%%=*} (this one)"*) return 0 ;; esac
    done
    return 1
}
in_a_row=0
left=$ready_seconds
while [ "$in_a_row" -lt 3 ]; do
    if through; then in_a_row=$((in_a_row + 1)); else in_a_row=0; fi
    left=$((left - 1))
    [ "$left" -gt 0 ] || {
        write_side "$from"
        $reload || say "  the balancer could not be reloaded either"
        fail "no node of $to answers at $public" "see the balancer's log; new connections go to $from again"
    }
    sleep 1
done

say "5/5 the clients of $from come over, a batch at a time"
# Through a node that stays: it tells the one that goes, and sees it become empty.
for node in $old; do
    # All of them before any is waited for: none is to send its clients to the next one that goes.
    # shellcheck disable=SC2086
    "$outspoke" cluster drain "${node%%=*}" --server "${first#*=}" ${DRAIN-} ||
        fail "node ${node%%=*} does not take the order" "its clients stay where they are, and are served; run it again, or stop that node (SIGTERM)"
done
left_behind=
for node in $old; do
    "$outspoke" cluster drain "${node%%=*}" --server "${first#*=}" "--wait=${DRAIN_WAIT:-60s}" ||
        left_behind="$left_behind ${node%%=*}"
done
[ -z "$left_behind" ] ||
    fail "not empty yet:$left_behind" "they go on draining: look with \`outspoke cluster nodes\`, or go back with \`$0 $from\`"

say "done: everybody is on $to. Keep $from running as long as you may want to go back: \`$0 $from\`"
