"""All that a converge may leave on a node, one line each, without times: two nodes with the same lines are as if the same had been."""
import hashlib, os, re, stat, subprocess, sys

PLACES = ["/etc", "/srv", "/home", "/opt", "/root/.ssh", "/usr/local", "/var/k", "/var/lib/muster-agent", "/run/muster",
          "/run/muster-agent-scratch", "/run/muster-agent-owed", "/var/lib/systemd/timers", "/var/lib/apt/lists", "/var/backups"]
# What the tools beneath write for themselves: locks, copies of the last version, caches; and records of runs that have ended.
OWN = re.compile(r"/etc/(\.pwd\.lock|.*-|ld\.so\.cache|mtab|\.updated)|/etc/.*\.dpkg-(old|new|tmp)|/run/muster/(commands|programs/lock|edits.lock)"
                 r"|/var/lib/apt/lists/(lock|partial.*|auxfiles.*)|/usr/local/bin/muster-agent|.*/__pycache__.*")


def one(path):
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    line = f"{path} {found.st_mode:o} {found.st_uid} {found.st_gid}"
    if stat.S_ISLNK(kind):
        return f"{line} -> {os.readlink(path)}"
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        line += f" {name}={os.getxattr(path, name, follow_symlinks=False).hex()}"
    if stat.S_ISREG(kind):
        with open(path, "rb") as opened:
            content = opened.read()
        if path.startswith("/var/lib/muster-agent/"):
            return f"{line} " + re.sub(r"\b\d{10}\b", "T", content.decode("utf-8", "replace"))
        if path in ("/etc/shadow", "/etc/shadow-"):
            content = re.sub(rb":\d{5}:", b":DAY:", content)
        if path.endswith(("/fstab", "/conf", "/authorized_keys")):
            # Steps that run at once write their parts in either order.
            content = b"\n".join(sorted(content.split(b"\n")))
        line += f" {found.st_nlink} {len(content)} {hashlib.sha1(content).hexdigest()}"
        if len(content) < 4096 and not path.startswith("/var/lib/apt") and content.isascii():
            line += f" {content.decode()!r}"
    return line


def walk(path):
    if not os.path.lexists(path) or OWN.fullmatch(path):
        return
    print(one(path))
    if os.path.isdir(path) and not os.path.islink(path):
        for name in sorted(os.listdir(path)):
            walk(f"{path}/{name}")


for place in PLACES:
    walk(place)
mounts = [line.split() for line in open("/proc/self/mountinfo", encoding="utf-8")]
for words in sorted(mounts, key=lambda words: words[4]):
    if words[4].startswith(("/srv", "/var/k", "/etc", "/opt", "/home")):
        print("mount", words[3:6], words[words.index("-") + 1:words.index("-") + 3])
for file in ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid"):
    for line in open(file, encoding="utf-8"):
        print(file, re.sub(r":\d{5}:", ":DAY:", line.strip()))
for script in sys.argv[1:]:
    said = subprocess.run(["sh", script], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace").stdout
    print("".join(f"tool: {line}\n" for line in said.splitlines()))
