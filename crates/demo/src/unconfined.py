"""A system that stops nothing, to be thrown away: run by `unshare` in new namespaces, as real root.

Its root is an overlay whose changes go to memory; its network is a loopback that pretends to be the world. Then it runs
the hostile agent. Arguments: the program, then what to pass on.
"""

import fcntl
import os
import resource
import socket
import struct
import subprocess
import sys
import threading

hostile, arguments = sys.argv[1], sys.argv[2:]
KEY = "sk-" + "ant-" + "a1" * 20


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


# A root of its own.
mount("-t", "tmpfs", "none", "/mnt")
for name in ("up", "work", "root"):
    os.mkdir("/mnt/" + name)
program = open(hostile, "rb").read()
mount("-t", "overlay", "none", "-o", "lowerdir=/,upperdir=/mnt/up,workdir=/mnt/work", "/mnt/root")
for name in ("dev", "sys"):
    mount("--rbind", "/" + name, "/mnt/root/" + name)
mount("-t", "proc", "none", "/mnt/root/proc")
for name in ("tmp", "root", "var/tmp"):
    mount("-t", "tmpfs", "none", "/mnt/root/" + name)
# Not by chroot, under which the kernel refuses user namespaces.
os.chdir("/mnt/root")
subprocess.run(["pivot_root", ".", "mnt"], check=True)
os.chdir("/")
subprocess.run(["umount", "--lazy", "/mnt"], check=True)
os.makedirs("/.lazaret")
subprocess.run(["cp", "/bin/sleep", "/.lazaret/guest"], check=True)
with open("/root/.netrc", "w") as file:
    file.write("machine example.com password " + KEY + "\n")
os.chmod("/tmp", 0o1777)
os.mkdir("/tmp/workspace")
os.chdir("/tmp/workspace")
with open("/tmp/hostile", "wb") as file:
    file.write(program)
os.chmod("/tmp/hostile", 0o755)
with open("/tmp/of-the-host", "w") as file:
    file.write("x")

# The world on the loopback.
control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
SIOCSIFADDR, SIOCSIFFLAGS, TUNSETIFF = 0x8916, 0x8914, 0x400454CA


def address(name, ip):
    fcntl.ioctl(control, SIOCSIFADDR, struct.pack("16sH2s4s8x", name.encode(), socket.AF_INET, b"", socket.inet_aton(ip)))


fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", 1))
for number, ip in enumerate(("1.1.1.1", "8.8.8.8", "169.254.169.254")):
    address("lo:%d" % number, ip)
try:
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"probe0", 0x1001))
except OSError as error:
    print("no second interface:", error, file=sys.stderr)


def listen(ip, port):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((ip, port))
    server.listen(2000)
    return server


world = [listen("1.1.1.1", 443), listen("169.254.169.254", 80), listen("127.0.0.1", 4000)]
local = socket.socket(socket.AF_UNIX)
local.bind("\0of-the-host")
local.listen()
resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
resolver.bind(("8.8.8.8", 53))


def resolve():
    while True:
        question, asker = resolver.recvfrom(512)
        resolver.sendto(question, asker)


# A model endpoint, and a proxy, that say yes to everything, and show a key.
def agree(connection):
    body = ('{"key": "%s"}' % KEY).encode()
    try:
        connection.recv(65536)
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        connection.sendall(head + body)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass
    except OSError:
        pass
    connection.close()


def serve(port):
    server = listen("127.0.0.1", port)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=agree, args=(connection,), daemon=True).start()


for work, arguments_of_it in ((resolve, ()), (serve, (8181,)), (serve, (8183,))):
    threading.Thread(target=work, args=arguments_of_it, daemon=True).start()

most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
neighbour = subprocess.Popen(["/bin/sleep", "1000"], env={"SECRET": KEY})
environment = {"PATH": os.environ["PATH"], "LAZARET_HOSTILE_HOST_FILE": "/tmp/of-the-host"}
options = {"env": environment, "stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
subprocess.run(["/tmp/hostile", "--only", "setuid-programs"], user=65534, group=65534, extra_groups=[], **options)
# A descriptor that leaks.
leak = os.open("/dev/null", os.O_RDONLY)
subprocess.run(["/tmp/hostile", "--but", "setuid-programs", *arguments], pass_fds=[leak], **options)
neighbour.kill()
