#!/usr/bin/env python3
"""An independent verifier of a Sallyport audit log, written from docs/audit-format.md alone.

    verify.py <log folder> <public key file> [<checkpoint kept elsewhere> ...]

Prints one line of JSON; exit code 0 if everything signed is there, 1 if not. Needs nothing but Python 3.8 or newer.
"""
import base64
import hashlib
import json
import os
import re
import sys

# --- Ed25519 (RFC 8032 section 5.1), verification only ---------------------------------------------------------------
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def recover_x(y, sign):
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P != 0:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - x2) % P != 0 or (x == 0 and sign):
        return None
    return P - x if x % 2 != sign else x


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(scalar, point):
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def point_of(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def is_signed(key, message, signature):
    a, r, s = point_of(key), point_of(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    left, right = multiply(s, BASE), add(r, multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# --- Merkle tree (RFC 9162 section 2.1) ------------------------------------------------------------------------------
def sha256(data):
    return hashlib.sha256(data).digest()


class Tree:
    def __init__(self):
        self.size, self.peaks = 0, []

    def push(self, leaf):
        rest = self.size
        while rest & 1:
            leaf = sha256(b"\x01" + self.peaks.pop() + leaf)
            rest >>= 1
        self.peaks.append(leaf)
        self.size += 1

    def root(self):
        if not self.peaks:
            return sha256(b"")
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = sha256(b"\x01" + peak + root)
        return root


# --- Keys and checkpoints (C2SP signed-note, tlog-checkpoint) --------------------------------------------------------
def decode(text):
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("base64 with stray bits")
    return data


def read_key(text):
    name, key_id, encoded = text.strip().split("+", 2)
    data = decode(encoded)
    if len(data) != 33 or data[0] != 1 or sha256(name.encode() + b"\n" + data)[:4].hex() != key_id:
        raise ValueError("not a public key")
    return name, bytes.fromhex(key_id), data[1:]


def open_checkpoint(note, key):
    name, key_id, public = key
    if any(c < " " and c != "\n" for c in note):
        raise ValueError("control characters")
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise ValueError("no signed note")
    text += "\n"
    found = False
    for line in signatures[:-1].split("\n"):
        dash, signer, encoded = line.split(" ")
        data = decode(encoded)
        if dash != "\u2014":
            raise ValueError("no signature line")
        if signer == name and data[:4] == key_id:
            if not is_signed(public, text.encode(), data[4:]):
                raise ValueError("wrong signature")
            found = True
    match = re.fullmatch(r"([^\n]+)\n(0|[1-9][0-9]{0,15})\n([^\n]+)\n", text)
    if not found or not match or match[1] != name or len(decode(match[3])) != 32:
        raise ValueError("not signed by the key, or no checkpoint of this log")
    return int(match[2]), decode(match[3])


def read(path, mode="rb"):
    try:
        with open(path, mode) as file:
            return file.read()
    except FileNotFoundError:
        return b""


# --- The log ---------------------------------------------------------------------------------------------------------
def verify(folder, key, since):
    problems, anchors = [], {}

    def anchor(note, what):
        try:
            size, root = open_checkpoint(note.decode(), key)
            anchors.setdefault(size, set()).add(root)
        except (ValueError, UnicodeDecodeError) as error:
            problems.append("%s: %s" % (what, error))

    anchor(read(os.path.join(folder, "checkpoint")), "checkpoint")
    history = read(os.path.join(folder, "checkpoints")).split(b"\n")
    for at in range(0, len(history) - 1, 5):
        anchor(b"\n".join(history[at : at + 5]) + b"\n", "history line %d" % (at + 1))
    if history[-1] != b"" or (len(history) - 1) % 5:
        problems.append("the history ends in the middle of a note")
    for kept in since:
        anchor(read(kept), kept)
    signed = max(anchors, default=0)

    leaves = read(os.path.join(folder, "tree", "0"))
    stored = [leaves[at : at + 32] for at in range(0, len(leaves) - 31, 32)]
    names = sorted(n for n in (os.listdir(os.path.join(folder, "segments")) if os.path.isdir(os.path.join(folder, "segments")) else [])
                   if re.fullmatch(r"\d{16}\.jsonl", n) and os.path.getsize(os.path.join(folder, "segments", n)))
    tree, removed_before, events = Tree(), 0, 0

    def push(leaf):
        tree.push(leaf)
        for root in anchors.get(tree.size, ()):
            if root != tree.root():
                problems.append("the first %d events are not those that were signed" % tree.size)

    for root in anchors.get(0, ()):
        if root != tree.root():
            problems.append("the root of the empty log is wrong")
    first = int(names[0][:16]) if names else 0
    for leaf in stored[:first]:
        push(leaf)
    for name in names:
        if int(name[:16]) != tree.size:
            problems.append("%s: event %d should come next" % (name, tree.size))
            break
        lines = read(os.path.join(folder, "segments", name)).split(b"\n")
        if lines.pop() != b"" and (tree.size + len(lines) < signed or name != names[-1]):
            problems.append("%s: the last line is cut off" % name)
        for number, line in enumerate(lines, 1):
            index = tree.size
            try:
                event = json.loads(line.decode())
                right = event["id"] == "evt_%s_%d" % (key[0].rsplit("/", 1)[-1], index)
                if right and event.get("type") == "audit.retention" and index < signed:
                    removed_before = max(removed_before, int(event["removed_before"]))
            except (ValueError, KeyError, TypeError, UnicodeDecodeError):
                right = False
            leaf = sha256(b"\x00" + line)
            if not right or (index < len(stored) and stored[index] != leaf):
                problems.append("%s line %d: not event %d as it was signed" % (name, number, index))
            events += right
            push(leaf)
    if first > removed_before:
        problems.append("events 0 to %d are missing" % (first - 1))
    if tree.size < signed:
        problems.append("%d events were signed, but there are %d" % (signed, tree.size))
    return {"ok": not problems, "events": events, "signed": signed, "removed": first,
            "unsigned": max(0, tree.size - signed), "problems": problems[:20]}


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    report = verify(sys.argv[1], read_key(read(sys.argv[2]).decode()), sys.argv[3:])
    print(json.dumps(report))
    sys.exit(0 if report["ok"] else 1)
