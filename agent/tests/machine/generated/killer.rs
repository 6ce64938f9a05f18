//! An agent that is killed at the n-th call with which it, or a program that it runs, changes something.
//!
//! strace holds each such call for a moment after it was made, so that the kill finds the agent just behind it. Counted is here
//! and not in strace, which counts each thread for itself.

/// Calls that change what others can see, on disks, in the kernel, at other daemons.
const CALLS: &str = "execve,renameat2,rename,renameat,unlinkat,unlink,rmdir,mkdirat,mkdir,linkat,symlinkat,symlink,fchmod,fchmodat,chmod,fchown,\
    fchownat,lchown,fsetxattr,fsync,fdatasync,syncfs,ftruncate,mount,umount2,move_mount,sendmsg,sendto";

/// Reads strace's lines. Its first is the agent's own start; the end of a call that others came between is one line more.
/// strace takes no polite signal, and would wait for every program that was left behind.
const SCRIPT: &str = r#"
count=-1 agent=
while read -r pid rest; do
  agent=${agent:-$pid}
  case $rest in
    *'<unfinished ...>' | '--- '*) continue ;;
    '+++ '*) if [ $pid = $agent ]; then echo "$count calls, and none was the last" > /run/lab-killed; kill -KILL $PPID; exit; else continue; fi ;;
  esac
  count=$((count + 1))
  if [ $count = $1 ]; then
    kill -KILL $agent
    call=${rest#<... }; call=${call%%[ (]*}
    echo "killed at call $count: $call" > /run/lab-killed
    kill -KILL $PPID; exit
  fi
done
"#;

/// A script that applies the catalog at a path, is killed at a call, and says what was killed.
pub fn killed(at: u64, path: &str) -> String {
    let calls = CALLS.replace(' ', "");
    format!(
        "cat > /run/lab-killer <<'KILLER'\n{SCRIPT}\nKILLER\n\
         strace -f -q -s 0 -e trace={calls} -e inject={calls}:delay_exit=15000 -o '|exec sh /run/lab-killer {at}' muster-agent apply {path} >/dev/null 2>&1 || true\n\
         cat /run/lab-killed\n"
    )
}
