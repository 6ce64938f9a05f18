#!/bin/bash
# Kills the agent at points of one case, and looks whether the next converge ends as if nothing had been. sweep.sh CASE AGENTS CHILDREN
#
# /root/kills/CASE has site.toml (what is applied), before (makes the node as it was), live (what the tools say of it), right (fails
# where that is not as written), mine (a pattern of what the case may change) and how (`all` where children are killed with the agent,
# too; then the microseconds after each call). AGENTS and CHILDREN: how many points of either sort, spread; 0 for all.
set -u
case=$1 most_agents=$2 most_children=$3
cd "/root/kills/$case" || exit 1
here=$PWD
read -r hows delay <how
set=$(tr '\n' ',' <../calls | sed 's/,$//')
faults=0

fault() { faults=$((faults + 1)); echo "FAULT $case: $*"; }
show() { sed 's/^/    /' "$1" | tail -n "${2:-15}"; }
state() { python3 ../state.py live; }

reset() {
    rm -rf /var/lib/muster-agent/apply.json* /var/lib/muster-agent/.apply* /run/muster/commands
    bash -eux ./before >reset.log 2>&1 || { fault "it cannot be made as before"; show reset.log; }
}

# WHO N HOW: returns when the agent is no more; strace goes on with what it started.
run() {
    rm -f killed count calls agent
    strace -f -qq -yy -s 24 -e signal=none -e "trace=$set,?openat" -e "inject=$set:delay_exit=$delay" \
        -o "|exec sh ../at.sh $1 $2 $3 $here" muster-agent apply site.toml >out 2>&1 &
    strace=$!
    until [ -e killed ] || ! kill -0 $strace 2>/dev/null; do sleep 0.01; done
    [ -e killed ] && while grep -qs '^State:[^ZX]*$' "/proc/$(cat agent)/status"; do sleep 0.01; done
}

apply() { # NAME STATUS...
    local name=$1 status
    shift
    muster-agent apply site.toml --json >"$name.json" 2>"$name.err"
    status=$?
    case " $* " in *" $status "*) return 0 ;; esac
    fault "$at: $name ended with $status: $(cat killed 2>/dev/null)"
    show "$name.json" 40
    show "$name.err"
    return 1
}

same() { # A B
    diff "$1" "$2" >difference && return 0
    fault "$at: it is not as if nothing had been: $(cat killed 2>/dev/null)"
    show difference 20
    return 1
}

if [ -e setup ] && ! bash -eux ./setup >setup.log 2>&1; then
    fault "it cannot be set up"
    show setup.log
fi

# Once without a kill.
at="without a kill"
reset
state >before.state
run agent 0 agent
wait $strace || [ $? = 2 ] || { fault "$at: status"; show out; }
read -r agents children <count
apply again 0
grep -q '"steps": \[\]' again.json || { fault "$at: the second apply changes something"; show again.json 40; }
state >wanted.state
bash -eux -c 'not() { ! "$@"; }; . ./right' >right.log 2>&1 || { fault "$at: it is not right"; show right.log; show out; }
others=$(diff before.state wanted.state | grep -aE '^[<>] (/|mount)' | grep -avE "^. ($(cat mine)|/var/lib/muster-agent|/run/(muster|k))")
[ -z "$others" ] || fault "$at: what belongs to others was changed: $others"
cp calls all.calls

# How many of how many: all, or some of them, the last one too.
spread() { # MOST COUNT
    if [ "$1" = 0 ] || [ "$1" -ge "$2" ]; then seq 1 "$2"; else for i in $(seq 1 "$1"); do echo $((i * $2 / $1)); done; fi
}

point() { # WHO N HOW
    at="$1 $2 of $([ "$1" = agent ] && echo "$agents" || echo "$children"), $3"
    reset
    run "$1" "$2" "$3"
    [ -e killed ] || early=$((early + 1))
    if apply recovered 0 2; then
        wait $strace 2>/dev/null
        apply again 0 && { grep -q '"steps": \[\]' again.json || fault "$at: the second apply changes something"; }
        state >now.state
        same wanted.state now.state
    fi
    wait $strace 2>/dev/null
    points=$((points + 1))
}

early=0 points=0
[ "$faults" = 0 ] && {
    for n in $(spread "$most_agents" "$agents"); do point agent "$n" agent; done
    [ "$children" = 0 ] || for n in $(spread "$most_children" "$children"); do
        point child "$n" agent
        [ "$hows" = agent ] || point child "$n" all
    done
}
echo "SWEPT $case: $SECONDS s, $agents calls of the agent, $children of its programs, $points kills, $early after the end, $faults faults"
[ "$faults" = 0 ]
