"""A stand-in for an archive class, in front of a real S3 store: the store's own GLACIER reads back at once, so that here
the answers are those of a shop that keeps its packs frozen.

    cold = cold_store.ColdStore(cluster)        # cold.endpoint; everything else goes through as it is
    cold.thawed()                               # what was asked for is readable from now on

Objects whose key has packs/ in it are frozen (with `by_class`, a raw client: those of them that lie in the class): a GET answers 403 InvalidObjectState, a HEAD tells the class and how far
a thaw is, POST ?restore asks for one (202; again: 409 RestoreAlreadyInProgress).
"""

import atexit
import http.client
import http.server
import threading
import urllib.parse

FROZEN_CLASS = "GLACIER"


class ColdStore:
    def __init__(self, cluster, by_class=None):
        target = urllib.parse.urlsplit(cluster.endpoint)
        assert target.scheme == "http", "signed over the host's name: the stand-in speaks plain HTTP"
        self.state = {}  # key: "asked" or "readable"
        self.asked = []  # (key, body) of each thaw
        self.moved = []  # keys of objects that were copied onto themselves
        self.owner = by_class  # a raw client that may look
        self.lock = threading.Lock()
        cold = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_one(self):
                parts = urllib.parse.urlsplit(self.path)
                key = urllib.parse.unquote(parts.path)
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else b""
                frozen = "/packs/" in key and self.command in ("GET", "HEAD", "POST") and (by_class is None or cold.lies_there(parts.path))
                with cold.lock:
                    state = cold.state.get(key)
                if frozen and self.command == "POST" and parts.query.startswith("restore"):
                    with cold.lock:
                        cold.asked.append((key, body.decode()))
                        cold.state.setdefault(key, "asked")
                    if state == "asked":
                        return self.error(409, "RestoreAlreadyInProgress")
                    return self.answer(202, {}, b"")
                if frozen and self.command == "GET" and state != "readable" and not parts.query:
                    return self.error(403, "InvalidObjectState")
                if self.command == "PUT" and "x-amz-copy-source" in self.headers:
                    cold.moved.append(key)
                upstream = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "connection":
                        upstream.putheader(name, value)
                upstream.endheaders(body if body else None)
                reply = upstream.getresponse()
                content = reply.read()
                headers = {name: value for name, value in reply.getheaders() if name.lower() not in ("connection", "transfer-encoding")}
                if frozen and self.command == "HEAD" and reply.status == 200:
                    headers["x-amz-storage-class"] = FROZEN_CLASS
                    if state == "asked":
                        headers["x-amz-restore"] = 'ongoing-request="true"'
                    elif state == "readable":
                        headers["x-amz-restore"] = 'ongoing-request="false", expiry-date="Fri, 21 Dec 2035 00:00:00 GMT"'
                if self.command == "GET" and "list-type=2" in parts.query:
                    content = content.replace(b"<StorageClass>STANDARD</StorageClass>", f"<StorageClass>{FROZEN_CLASS}</StorageClass>".encode())
                    headers["Content-Length"] = str(len(content))
                upstream.close()
                return self.answer(reply.status, headers, content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

            def error(self, status, code):
                self.answer(status, {"Content-Type": "application/xml"}, f"<Error><Code>{code}</Code></Error>".encode())

            def answer(self, status, headers, content):
                self.send_response_only(status)
                names = {name.lower() for name in headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                if "content-length" not in names and status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):  # a hedged read's client hangs up: its other request was faster
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        atexit.register(self.stop)

    def lies_there(self, path):
        _, bucket, key = urllib.parse.unquote(path).split("/", 2)
        return self.owner.head(bucket, key).headers.get("x-amz-storage-class") == FROZEN_CLASS

    def thawed(self):
        with self.lock:
            self.state = {key: "readable" for key in self.state}

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
