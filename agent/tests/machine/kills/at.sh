#!/bin/sh
# Reads what strace says and kills at one point of it. at.sh WHO N HOW FOLDER
#
# WHO `agent`: the N-th call of the agent itself that changed something; `child`: of the programs that it started; N 0: none, they
# are counted. HOW `agent`: it alone is killed, its programs go on; `all`: they are killed with it. strace holds each thread for a
# moment after each call, so the next one is not made.
who=$1 n=$2 how=$3 folder=$4
agent='' agents=0 children=0 all=''
while read -r pid line; do
    eval "entered=\${e$pid-}"
    case $line in
        *'<unfinished ...>') eval "e$pid=\${line%%<unfinished*}"; continue ;;
        '<... '*) line="$entered$line" ;;
    esac
    case $line in
        # What failed changed nothing; a file that is opened changes something where it is made.
        *' = -1 '* | *' = ?'*) continue ;;
        openat*O_CREAT*) ;;
        openat*) continue ;;
        # The agent's own wake-ups, and what is written for nobody.
        *eventfd* | *memfd:* | *'</dev/null>'* | *pipe:* | *"$folder"/out*) continue ;;
    esac
    [ -n "$agent" ] || { agent=$pid && echo "$pid" >"$folder/agent"; }
    if [ "$pid" = "$agent" ] || [ -e "/proc/$agent/task/$pid" ]; then
        agents=$((agents + 1)) at=agent count=$agents
    else
        children=$((children + 1)) at=child count=$children
        case $all in *" $pid "*) ;; *) all="$all $pid " ;; esac
    fi
    if [ "$who" = "$at" ] && [ "$count" = "$n" ]; then
        kill -KILL "$agent"
        # shellcheck disable=SC2086
        [ "$how" = agent ] || kill -KILL $all 2>/dev/null
        printf "%s\n" "$at $count $line" >"$folder/killed"
    fi
    [ "$n" != 0 ] || printf "%s\n" "$at $count $line" >>"$folder/calls"
done
echo "$agents $children" >"$folder/count"
