#!/bin/sh
# Started anew over the tables of the one before, kube-proxy 1.34 with Debian 12's nft (1.0.6) takes every element of its maps for a
# leftover some seconds later and removes them: all Services are gone until a full sync. Begun empty, it has nothing to misread.
nft delete table ip kube-proxy 2>/dev/null
nft delete table ip6 kube-proxy 2>/dev/null
exec /usr/local/libexec/kube-proxy "$@"
