#!/bin/sh
# The cases of these files, each into a folder of its own.
awk '
/^=== /  { folder = "/root/kills/" $2; system("mkdir -p " folder); next }
/^--- /  { file = folder "/" $2; printf "" >file; next }
         { print >file }' "$@"
