#!/usr/bin/env python3
"""Calls a server of ours for a file in parts and for their digests: python3 parts.py URL PASSWORD NAME PART_BYTES"""

import hashlib
import hmac
import sys
import xmlrpc.client

url, password, name, length = sys.argv[1:]
proof = hmac.new(password.encode(), url.encode(), "md5").hexdigest()
server = xmlrpc.client.ServerProxy(url)
sha256, version, size, age = server.f(proof, 3, [name, "0", "0"])
content = b""
while len(content) < int(size):
    part = [name, str(len(content)), length]
    piece = server.f(proof, 2, part)
    piece = piece.encode() if isinstance(piece, str) else piece.data
    assert server.f(proof, 3, part)[:2] == [hashlib.sha256(piece).hexdigest(), version]
    content += piece
sys.stdout.buffer.write(content)
