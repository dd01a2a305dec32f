#!/usr/bin/env python3
"""A second implementation of the TinyP2P protocol, for the tests to play against the first.

It is written from the description of the wire alone, on nothing but Python's own XML-RPC, so that a misreading that
one program makes twice, once when it writes and once when it reads, cannot go unseen. As a server it keeps a peer
list, joins the network it is told of and shares the files of a directory; as a client it takes every file that
matches.

With --original it does what the program of 2004 does: one call at a time, HTTP/1.0, names and contents as raw bytes
with three characters escaped and no regard for XML, directories listed, peers merged without a look.
"""

from __future__ import annotations

import argparse
import hmac
import os
import re
import signal
import sys
import xmlrpc.client
from pathlib import Path
from socketserver import ThreadingMixIn
from types import FrameType
from typing import Any
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

MERGE, LIST, FETCH = 0, 1, 2

# What XML 1.0 cannot hold, and the carriage return, which its parsers turn into a line feed.
NOT_TEXT = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def proof(password: str, url: str) -> str:
    """Shows the server that calls itself `url` that the caller knows the password."""
    return hmac.new(password.encode(), url.encode(), "md5").hexdigest()


class Peer:
    """Another server, as it is called from here."""

    def __init__(self, password: str, url: str) -> None:
        self.url = url
        self._proof = proof(password, url)
        self._server = xmlrpc.client.ServerProxy(url + "/RPC2", use_builtin_types=True)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server("close")()

    def _call(self, op: int, arg: object) -> Any:
        answer = self._server.f(self._proof, op, arg)
        if answer is False:
            raise PermissionError(f"{self.url} refuses the proof")
        return answer

    def merge(self, urls: list[str]) -> list[str]:
        """Tells the peer of others and asks for all it knows."""
        peers: list[str] = self._call(MERGE, urls)
        return peers

    def names(self, pattern: str) -> list[str]:
        """Asks for the names in which the pattern is found."""
        [names] = self._call(LIST, pattern)
        return list(names)

    def fetch(self, name: str) -> bytes:
        """Asks for a file."""
        content: str | bytes = self._call(FETCH, name)
        return content.encode() if isinstance(content, str) else content


class Share:
    """A directory whose regular files are shared."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self, pattern: str) -> list[str]:
        """The names of the files in which the pattern is found."""
        names = [entry.name for entry in os.scandir(self._directory) if entry.is_file()]
        return [name for name in names if re.search(pattern, name)]

    def content(self, name: str) -> str | bytes:
        """What a file holds: as text when that arrives as it left, else as bytes, which travel as base64."""
        if Path(name).name != name or name == "..":
            raise ValueError(f"{name!r} is no name of a file")
        content = (self._directory / name).read_bytes()
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return content
        return content if NOT_TEXT.search(text) else text


class Node:
    """What a server knows and how it answers the one method, f."""

    def __init__(self, password: str, url: str, peers: list[str], share: Share) -> None:
        self._password = password
        self._url = url
        self._share = share
        self.peers: list[str] = []
        self._add([url, *peers])

    def _add(self, urls: list[str]) -> None:
        for url in urls:
            if url not in self.peers:
                self.peers.append(url)

    def f(self, token: object, op: object, arg: Any) -> Any:
        """Merges, lists or fetches, for a caller who knows the password."""
        if token != proof(self._password, self._url):
            return False
        if op == MERGE:
            self._add(arg)
            return self.peers
        if op == LIST:
            return [self._share.names(arg)]
        return self._share.content(arg)

    def join(self) -> None:
        """Exchanges lists with every peer, those learnt on the way included."""
        for url in self.peers:
            if url == self._url:
                continue
            try:
                with Peer(self._password, url) as peer:
                    self._add(peer.merge(self.peers))
            except (OSError, xmlrpc.client.Error) as error:
                print(f"could not join {url}: {error}", file=sys.stderr)


class Server(ThreadingMixIn, SimpleXMLRPCServer):
    """Answers many calls at once."""

    daemon_threads = True


class KeepAliveHandler(SimpleXMLRPCRequestHandler):
    """Leaves the connection open after an answer."""

    protocol_version = "HTTP/1.1"


class OriginalNode(Node):
    """Answers as the program of 2004 does, whose strings are bytes."""

    def __init__(self, password: str, url: str, peers: list[str], directory: Path, *, repaired: bool) -> None:
        super().__init__(password, url, peers, Share(directory))
        self._directory = os.fsencode(directory)
        if not repaired:
            self.peers.remove(url)

    def f(self, token: object, op: object, arg: Any) -> Any:
        """Merges, lists or fetches; falls through to the next where a result is false in Python."""
        if token != proof(self._password, self._url):
            return False
        if op == MERGE:
            self._add(arg)
            if self.peers:
                return self.peers
        if op == LIST:
            names = os.listdir(self._directory)
            return [[name for name in names if arg.isascii() and re.search(arg.encode(), name)]]
        with open(os.path.join(self._directory, os.fsencode(arg)), "rb") as file:
            return file.read()


def written(value: object) -> bytes:
    """A value as the original's library spells it: strings of bytes, three characters escaped."""
    if isinstance(value, bool):
        return b"<value><boolean>%d</boolean></value>\n" % value
    if isinstance(value, list):
        return b"<value><array><data>\n" + b"".join(map(written, value)) + b"</data></array></value>\n"
    text = value if isinstance(value, bytes) else os.fsencode(str(value))
    for character, entity in (b"&", b"&amp;"), (b"<", b"&lt;"), (b">", b"&gt;"):
        text = text.replace(character, entity)
    return b"<value><string>" + text + b"</string></value>\n"


class OriginalServer(SimpleXMLRPCServer):
    """Answers one call at a time, in bytes that need not be XML."""

    request_queue_size = 5

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, requestHandler=OriginalHandler, logRequests=False)
        self.node: OriginalNode | None = None

    def _marshaled_dispatch(self, data: Any, dispatch_method: Any = None, path: Any = None) -> Any:
        try:
            params, method = xmlrpc.client.loads(data)
            if method != "f" or self.node is None:
                raise NotImplementedError(f'method "{method}" is not supported')
            answer = b"<params>\n<param>\n" + written(self.node.f(*params)) + b"</param>\n</params>\n"
        except Exception as error:  # Whatever goes wrong is a fault, in the original too.
            text = written(f"<type 'exceptions.{type(error).__name__}'>:{error}")
            answer = (
                b"<fault>\n<value><struct>\n<member>\n<name>faultCode</name>\n<value><int>1</int></value>\n</member>\n"
                b"<member>\n<name>faultString</name>\n" + text + b"</member>\n</struct></value>\n</fault>\n"
            )
        return b"<?xml version='1.0'?>\n<methodResponse>\n" + answer + b"</methodResponse>\n"


class OriginalHandler(SimpleXMLRPCRequestHandler):
    """Closes the connection after an answer, and never compresses."""

    protocol_version = "HTTP/1.0"
    encode_threshold = None  # type: ignore[assignment]


def serve(options: argparse.Namespace) -> None:
    """Listens, says its own URL, joins and answers."""
    server: SimpleXMLRPCServer
    address = (options.host, options.port)
    if options.original:
        server = OriginalServer(address)
    else:
        handler = KeepAliveHandler if options.keep_alive else SimpleXMLRPCRequestHandler
        server = Server(address, requestHandler=handler, logRequests=False)
    url = f"http://{options.host}:{server.server_address[1]}"
    node: Node
    if isinstance(server, OriginalServer):
        node = OriginalNode(options.password, url, options.peers, options.dir, repaired=not options.unlisted)
        server.node = node
    else:
        node = Node(options.password, url, options.peers, Share(options.dir))
        server.register_function(node.f, "f")
    print(url, flush=True)
    node.join()
    server.serve_forever()


def fetch_all(options: argparse.Namespace) -> None:
    """Takes every file that matches and is not here, from whichever peer lists it first; says the names."""
    with Peer(options.password, options.url) as peer:
        urls = peer.merge([])
    for url in urls:
        with Peer(options.password, url) as peer:
            for name in peer.names(options.pattern):
                target = options.dir / name
                if Path(name).name != name or target.exists():
                    continue
                target.write_bytes(peer.fetch(name))
                print(name)


def command_line() -> argparse.ArgumentParser:
    """The words that both modes take."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dir", type=Path, default=Path(), help="share or download here")
    parser.add_argument("--original", action="store_true", help="answer as the program of 2004 does")
    parser.add_argument("--unlisted", action="store_true", help="with --original: not repaired, does not list itself")
    parser.add_argument("--keep-alive", action="store_true", help="leave connections open after an answer")
    parser.add_argument("password")
    modes = parser.add_subparsers(required=True)
    server = modes.add_parser("server")
    server.add_argument("host")
    server.add_argument("port", type=int)
    server.add_argument("peers", nargs="*")
    server.set_defaults(run=serve)
    client = modes.add_parser("client")
    client.add_argument("url")
    client.add_argument("pattern")
    client.set_defaults(run=fetch_all)
    return parser


def stop(_signal: int, _frame: FrameType | None) -> None:
    """Ends the program at once: a test has seen enough."""
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    arguments = command_line().parse_args()
    arguments.run(arguments)
