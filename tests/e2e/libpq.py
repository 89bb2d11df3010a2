"""SQL without a process for each question: libpq itself, by ctypes. Answers are text, as `psql -XqAt` prints them."""

import ctypes
import os
import select
import socket

_OK, _COMMAND, _TUPLES, _ERROR = 0, 1, 2, 7  # ConnStatusType; ExecStatusType
_POINTERS = ("PQconnectdb", "PQgetResult")
_TEXTS = ("PQerrorMessage", "PQresultErrorMessage", "PQgetvalue")
_GONE_SECONDS_MAX = 10

_pq = ctypes.CDLL("libpq.so.5")
for _name in _POINTERS:
    getattr(_pq, _name).restype = ctypes.c_void_p
for _name in _TEXTS:
    getattr(_pq, _name).restype = ctypes.c_char_p
# Notices go nowhere.
_deaf = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)(lambda _argument, _message: None)
# Nothing of the caller's may steer a connection.
for _name in [name for name in os.environ if name.startswith("PG")]:
    del os.environ[_name]


class Failed(Exception):
    """What the server said; `printed`: the rows before it."""

    def __init__(self, message, printed=""):
        super().__init__(message)
        self.printed = printed


def _rows(result):
    """Of one result, a line each."""
    columns = range(_pq.PQnfields(result))
    for row in range(_pq.PQntuples(result)):
        yield "|".join(_pq.PQgetvalue(result, row, column).decode() for column in columns)


def _ask(connection, query, lines):
    """One message, and so one transaction, however many statements it holds."""
    if not _pq.PQsendQuery(connection, query.encode()):
        raise Failed(_pq.PQerrorMessage(connection).decode())
    problem = None
    while found := _pq.PQgetResult(connection):
        result = ctypes.c_void_p(found)
        try:
            kind = _pq.PQresultStatus(result)
            if kind == _TUPLES:
                lines.extend(_rows(result))
            elif kind != _COMMAND:
                problem = problem or _pq.PQresultErrorMessage(result).decode() or f"an answer of kind {kind}, which only psql understands"
                if kind != _ERROR or _pq.PQstatus(connection) != _OK:
                    break  # a COPY is never at its end
        finally:
            _pq.PQclear(result)
    if problem:
        raise Failed(problem)


def _close(connection):
    """Returns when the server has forgotten this session, so that the next command may drop its database."""
    try:
        if _pq.PQstatus(connection) == _OK:
            with socket.socket(fileno=os.dup(_pq.PQsocket(connection))) as line:
                line.shutdown(socket.SHUT_WR)
                select.select([line], [], [], _GONE_SECONDS_MAX)
    except OSError:
        pass  # the server went first
    _pq.PQfinish(connection)


def run(conninfo, queries):
    """Each query in a transaction of its own, all in one session; the first that fails ends it."""
    connection = ctypes.c_void_p(_pq.PQconnectdb(conninfo.encode()))
    lines = []
    try:
        if _pq.PQstatus(connection) != _OK:
            raise Failed(_pq.PQerrorMessage(connection).decode())
        _pq.PQsetNoticeProcessor(connection, _deaf, None)
        for query in queries:
            _ask(connection, query, lines)
    except Failed as problem:
        problem.printed = "\n".join(lines).strip()
        raise
    finally:
        _close(connection)
    return "\n".join(lines).strip()
