"""An address that takes what is posted to it, for tests of whom the daemon tells."""

import http.server
import json
import threading


class Sink:
    """Takes what is posted to it; of a path it fails the first times it is told to."""

    def __init__(self):
        self.requests, self.failures, self.lock = [], {}, threading.Lock()
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def take(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with sink.lock:
                    left, status = sink.failures.get(self.path, (0, 0))
                    if left:
                        sink.failures[self.path] = (left - 1, status)
                    answer = status if left else 200
                    sink.requests.append((self.path, dict(self.headers), body.decode(), answer))
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = take

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def fail(self, path, times, status):
        with self.lock:
            self.failures[path] = (times, status)

    def got(self, path, taken=True):
        with self.lock:
            return [(headers, json.loads(body) if body else None) for at, headers, body, answer in self.requests
                    if at == path and (answer == 200 or not taken)]
