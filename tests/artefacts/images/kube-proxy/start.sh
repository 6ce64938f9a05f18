#!/bin/sh
# kube-proxy 1.34 trusts at its first sync that an endpoint's chain which is there is whole. One that its predecessor had just
# emptied, to delete it a second later, stays empty then, and its Service refuses connections from this node until its endpoints
# change. Begun without tables it writes all of them at its first sync; connections that are there go on meanwhile.
nft delete table ip kube-proxy 2>/dev/null
nft delete table ip6 kube-proxy 2>/dev/null
exec /usr/local/libexec/kube-proxy "$@"
