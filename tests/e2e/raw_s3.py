"""A raw S3 client for tests: what an attacker with a stolen credential has in hand. Signs with AWS Signature Version 4
and shares no code with the program under test. Answers are returned as they are, refusals included:

    client = raw_s3.Client("https://127.0.0.1:8443", access, secret, ca="ca.pem")
    answer = client.put("bucket", "key", b"bytes", if_none_match="*")
    answer.status, answer.code          # 403, "AccessDenied"
"""

import base64
import hashlib
import hmac
import http.client
import re
import ssl
import threading
import time
import urllib.parse
import xml.etree.ElementTree

TIMEOUT_SECONDS = 60
REGION = "us-east-1"


class Answer:
    """One response."""

    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers}

    @property
    def code(self):
        """The store's word for a refusal: AccessDenied, NoSuchKey …; empty when there is none."""
        found = re.search(rb"<Code>([^<]*)</Code>", self.body)
        return found.group(1).decode() if found else ""

    @property
    def ok(self):
        return 200 <= self.status < 300

    def expect(self, *statuses):
        wanted = statuses or (200, 201, 202, 204, 206)
        if self.status not in wanted:
            raise AssertionError(f"the store answered {self}, expected {wanted}")
        return self

    def xml(self):
        root = xml.etree.ElementTree.fromstring(self.body)
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        return root

    def __str__(self):
        return f"{self.status} {self.code or self.body[:200]!r}"


def _sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _quote(text, safe=""):
    return urllib.parse.quote(text, safe=safe + "-_.~")


class Client:
    """One credential at one endpoint. May be used from several threads; each has a connection of its own."""

    def __init__(self, endpoint, access, secret, ca=None, timeout=TIMEOUT_SECONDS):
        parts = urllib.parse.urlsplit(endpoint)
        self.endpoint, self.access, self.secret, self.ca = endpoint, access, secret, ca
        self.host, self.secure, self.timeout = parts.netloc, parts.scheme == "https", timeout
        self.local = threading.local()

    def _connection(self):
        connection = getattr(self.local, "connection", None)
        if connection is None:
            if self.secure:
                context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
                connection = http.client.HTTPSConnection(self.host, timeout=self.timeout, context=context)
            else:
                connection = http.client.HTTPConnection(self.host, timeout=self.timeout)
            self.local.connection = connection
        return connection

    def close(self):
        connection = getattr(self.local, "connection", None)
        if connection is not None:
            connection.close()
            self.local.connection = None

    def signed_headers(self, method, path, query, headers, body, service="s3", signed_digest=None):
        """All headers of a signed request. `signed_digest`: claims another body than is sent."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        digest = signed_digest or hashlib.sha256(body).hexdigest()
        signed = {name.lower(): str(value) for name, value in headers.items()}
        signed.update({"host": self.host, "x-amz-date": stamp, "x-amz-content-sha256": digest})
        names = ";".join(sorted(signed))
        canonical = "\n".join([method, path, query, *[f"{name}:{signed[name].strip()}" for name in sorted(signed)], "", names, digest])
        scope = f"{stamp[:8]}/{REGION}/{service}/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + self.secret).encode()
        for word in scope.split("/"):
            key = _sign(key, word)
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        signed["authorization"] = f"AWS4-HMAC-SHA256 Credential={self.access}/{scope}, SignedHeaders={names}, Signature={signature}"
        return signed

    def request(self, method, bucket="", key="", query=None, headers=None, body=b"", service="s3", signed_digest=None):
        """One request, sent once. A connection the server closed while it was idle is opened again."""
        path = "/" + "/".join(part for part in (_quote(bucket), _quote(key, "/")) if part)
        text = "&".join(f"{_quote(name)}={_quote(str(value))}" for name, value in sorted((query or {}).items()))
        signed = self.signed_headers(method, path, text, headers or {}, body, service, signed_digest)
        target = path + ("?" + text if text else "")
        for attempt in (1, 2):
            connection = self._connection()
            fresh = connection.sock is None
            try:
                connection.request(method, target, body=body or None, headers=signed)
                response = connection.getresponse()
                answer = Answer(response.status, response.getheaders(), response.read())
                if not answer.ok:
                    self.close()  # a refusal may leave the connection unusable
                return answer
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self.close()
                if fresh or attempt == 2:
                    raise
            except BaseException:
                self.close()
                raise
        raise AssertionError("not reached")

    # Buckets.

    def create_bucket(self, bucket, lock=False, versioned=False):
        self.request("PUT", bucket, headers={"x-amz-bucket-object-lock-enabled": "true"} if lock else {}).expect()
        if versioned and not lock:
            body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            self.request("PUT", bucket, query={"versioning": ""}, body=body).expect()

    def set_default_retention(self, bucket, days, mode="COMPLIANCE"):
        body = (f"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>{mode}</Mode>"
                f"<Days>{days}</Days></DefaultRetention></Rule></ObjectLockConfiguration>").encode()
        self.request("PUT", bucket, query={"object-lock": ""}, body=body, headers=_md5(body)).expect()

    def set_bucket_policy(self, bucket, text):
        return self.request("PUT", bucket, query={"policy": ""}, body=text.encode())

    def set_lifecycle(self, bucket, rules_xml):
        body = f"<LifecycleConfiguration>{rules_xml}</LifecycleConfiguration>".encode()
        self.request("PUT", bucket, query={"lifecycle": ""}, body=body, headers=_md5(body)).expect()

    # Objects.

    def put(self, bucket, key, body=b"", headers=None, if_none_match=None, content_md5=None):
        more = dict(headers or {})
        if if_none_match:
            more["If-None-Match"] = if_none_match
        if content_md5:
            more["Content-MD5"] = content_md5
        return self.request("PUT", bucket, key, headers=more, body=body)

    def get(self, bucket, key, version=None, range_=None):
        return self.request("GET", bucket, key, query={"versionId": version} if version else {}, headers={"Range": range_} if range_ else {})

    def head(self, bucket, key):
        return self.request("HEAD", bucket, key)

    def delete(self, bucket, key, version=None, bypass=False):
        return self.request("DELETE", bucket, key, query={"versionId": version} if version else {},
                            headers={"x-amz-bypass-governance-retention": "true"} if bypass else {})

    def copy(self, bucket, key, source_bucket, source_key):
        return self.request("PUT", bucket, key, headers={"x-amz-copy-source": f"/{source_bucket}/{_quote(source_key, '/')}"})

    def list(self, bucket, prefix=""):
        """Every key, as [(key, size)]."""
        return [(item.findtext("Key"), int(item.findtext("Size"))) for item in self.listed(bucket, prefix)]

    def stored_at(self, bucket, prefix=""):
        """Every key, as [(key, when the store had it, as text)]."""
        return [(item.findtext("Key"), item.findtext("LastModified")) for item in self.listed(bucket, prefix)]

    def listed(self, bucket, prefix):
        found, token = [], None
        while True:
            query = {"list-type": "2", "prefix": prefix, **({"continuation-token": token} if token else {})}
            page = self.request("GET", bucket, query=query).expect(200).xml()
            found += page.iter("Contents")
            token = page.findtext("NextContinuationToken")
            if page.findtext("IsTruncated") != "true":
                return found

    def keys(self, bucket, prefix=""):
        return [key for key, _ in self.list(bucket, prefix)]

    def versions(self, bucket, prefix=""):
        """[(key, version, is the latest, is a delete marker)], newest first within a key."""
        found, query = [], {"versions": "", "prefix": prefix}
        while True:
            page = self.request("GET", bucket, query=query).expect(200).xml()
            for item in page:
                if item.tag in ("Version", "DeleteMarker"):
                    found.append((item.findtext("Key"), item.findtext("VersionId"), item.findtext("IsLatest") == "true",
                                  item.tag == "DeleteMarker"))
            if page.findtext("IsTruncated") != "true":
                return found
            query.update({"key-marker": page.findtext("NextKeyMarker"), "version-id-marker": page.findtext("NextVersionIdMarker")})

    # Holds.

    def retention(self, bucket, key, version=None):
        """(mode, until as text), or None."""
        answer = self.request("GET", bucket, key, query={"retention": "", **({"versionId": version} if version else {})})
        if answer.status in (400, 404):
            return None
        page = answer.expect(200).xml()
        return page.findtext("Mode"), page.findtext("RetainUntilDate")

    def set_retention(self, bucket, key, until, mode="COMPLIANCE", version=None, bypass=False):
        body = f"<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>".encode()
        headers = {**_md5(body), **({"x-amz-bypass-governance-retention": "true"} if bypass else {})}
        return self.request("PUT", bucket, key, query={"retention": "", **({"versionId": version} if version else {})}, headers=headers, body=body)

    def legal_hold(self, bucket, key, version=None):
        answer = self.request("GET", bucket, key, query={"legal-hold": "", **({"versionId": version} if version else {})})
        return answer.xml().findtext("Status") == "ON" if answer.ok else False

    def set_legal_hold(self, bucket, key, on, version=None):
        body = f"<LegalHold><Status>{'ON' if on else 'OFF'}</Status></LegalHold>".encode()
        return self.request("PUT", bucket, key, query={"legal-hold": "", **({"versionId": version} if version else {})}, headers=_md5(body), body=body)

    # Multipart.

    def multipart_begin(self, bucket, key, headers=None):
        return self.request("POST", bucket, key, query={"uploads": ""}, headers=headers).expect(200).xml().findtext("UploadId")

    def multipart_put(self, bucket, key, upload, number, body):
        return self.request("PUT", bucket, key, query={"partNumber": number, "uploadId": upload}, body=body)

    def multipart_complete(self, bucket, key, upload, etags, headers=None):
        parts = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1))
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        return self.request("POST", bucket, key, query={"uploadId": upload}, headers=headers, body=body)

    def uploads(self, bucket, prefix=""):
        """Multiparts begun and neither completed nor aborted: [(key, id)]."""
        page = self.request("GET", bucket, query={"uploads": "", "prefix": prefix}).expect(200).xml()
        return [(item.findtext("Key"), item.findtext("UploadId")) for item in page.iter("Upload")]


def _md5(body):
    return {"Content-MD5": base64.b64encode(hashlib.md5(body).digest()).decode()}
