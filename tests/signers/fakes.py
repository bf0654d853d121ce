"""Stand-ins for the key services that cannot run here: they speak the services' HTTP, hold keys, and really sign.

They are written from the services' documented APIs, so that what is tested is our code and the vendor's library on the
wire; that a real service answers as they do is not.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.signers import own

Answer = tuple[int, Any]
DIGEST_INFO = bytes.fromhex("3041300d060960864801650304020205000430")


class Fake:
    """A server of one service.

    :param asked: method and path of each request, in order.
    :param trouble: what to answer instead; a callable is called first.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        self.trouble: Any = None
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                fake.asked.append(f"{self.command} {self.path}")
                said = fake.trouble() if callable(fake.trouble) else fake.trouble
                status, answer = said or fake.answer(self.command, self.path, body, self.headers)
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in fake.headers_of(status).items():
                    self.send_header(name, value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                with suppress(OSError):  # whoever asked has had enough
                    self.wfile.write(content)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads, self.server.block_on_close = True, False
        self.port = self.server.server_port
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(timeout=10)

    def headers_of(self, status: int) -> dict[str, str]:
        return {}

    def answer(self, method: str, path: str, body: bytes, headers: Any) -> Answer:
        raise NotImplementedError


def public_pem(key: Any) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def raw(signature: bytes, size: int = 48) -> bytes:
    return b"".join(number.to_bytes(size, "big") for number in decode_dss_signature(signature))


class Vault(Fake):
    """Vault's transit engine, mounted at `transit` and at `teams/a/transit`.

    Its keys: `rsa-2048`, `rsa-3072`, `ecdsa-p384` and `ecdsa-p256`; `aes`, which is symmetric; `rotated`, of two versions.
    """

    TOKEN = "hvs.a-token-that-no-error-may-hold"
    KEYS: ClassVar = {
        "rsa-2048": ["2048"],
        "rsa-3072": ["3072"],
        "ecdsa-p384": ["p384"],
        "ecdsa-p256": ["p256"],
        "rotated": ["2048", "3072"],
    }

    def answer(self, method: str, path: str, body: bytes, headers: Any) -> Answer:
        found = re.fullmatch(r"/v1/(transit|teams/a/transit)/(keys|sign)/([\w-]+)(?:/(sha2-\d+))?", path)
        if headers.get("x-vault-token") != self.TOKEN:
            return 403, {"errors": [f"permission denied for {headers.get('x-vault-token')}"]}
        if found is None or (method, found[2]) not in {("GET", "keys"), ("POST", "sign")}:
            return 404, {"errors": ["no handler for route"]}
        return self._read(found[3]) if found[2] == "keys" else self._sign(found[3], found[4], json.loads(body))

    def _read(self, name: str) -> Answer:
        if name == "aes":
            return 200, {
                "data": {"type": "aes256-gcm96", "supports_signing": False, "latest_version": 1, "keys": {"1": 1750000000}}
            }
        if name not in self.KEYS:
            return 404, {"errors": []}
        kinds = [own.private(kind) for kind in self.KEYS[name]]
        versions = {
            str(number): {"public_key": public_pem(key), "creation_time": "2026-01-01T00:00:00Z", "name": "key"}
            for number, key in enumerate(kinds, 1)
        }
        return 200, {"data": {"type": name, "supports_signing": True, "latest_version": len(kinds), "keys": versions}}

    def _sign(self, name: str, in_path: str | None, asked: dict[str, Any]) -> Answer:
        if name not in self.KEYS:
            return 400, {"errors": ["signing key not found"]}
        version = asked.get("key_version") or len(self.KEYS[name])
        key, message = own.private(self.KEYS[name][version - 1]), base64.b64decode(asked["input"], validate=True)
        algorithm = in_path or asked.get("hash_algorithm", "sha2-256")
        if algorithm != "sha2-384" or asked.get("prehashed"):
            return 400, {"errors": [f"not what is tested: {asked}"]}
        if isinstance(key, rsa.RSAPrivateKey):
            if asked.get("signature_algorithm", "pss") != "pkcs1v15":
                return 400, {"errors": ["pss"]}
            signature = key.sign(message, padding.PKCS1v15(), SHA384())
        else:
            signature = key.sign(message, ec.ECDSA(SHA384()))
        if asked.get("marshaling_algorithm") == "jws":
            signature = signature if isinstance(key, rsa.RSAPrivateKey) else raw(signature)
            told = base64.urlsafe_b64encode(signature).decode().rstrip("=")
        else:
            told = base64.b64encode(signature).decode()
        return 200, {"data": {"signature": f"vault:v{version}:{told}", "key_version": version}}


class Google(Fake):
    """Cloud KMS over its REST API. Version 1 of each key is enabled; version 2 is disabled."""

    ALGORITHMS: ClassVar = {
        "rsa": ("2048", "RSA_SIGN_RAW_PKCS1_2048"),
        "rsa3072": ("3072", "RSA_SIGN_RAW_PKCS1_3072"),
        "p384": ("p384", "EC_SIGN_P384_SHA384"),
        "p256": ("p256", "EC_SIGN_P256_SHA256"),
        "sha256": ("2048", "RSA_SIGN_PKCS1_2048_SHA256"),
    }

    def answer(self, method: str, path: str, body: bytes, headers: Any) -> Answer:
        address = urlsplit(path).path
        if method == "POST" and address == "/token":
            return 200, {"access_token": "ya29.fake", "expires_in": 3600, "token_type": "Bearer"}
        found = re.fullmatch(
            r"/v1/(projects/.+/cryptoKeys/(\w+)/cryptoKeyVersions/(\d+))(/publicKey|:asymmetricSign)", address
        )
        if not headers.get("authorization", "").startswith("Bearer "):
            return self._error(401, "UNAUTHENTICATED")
        if found is None or found[2] not in self.ALGORITHMS:
            return self._error(404, "NOT_FOUND")
        if found[3] != "1":
            return self._error(400, "FAILED_PRECONDITION")
        kind, algorithm = self.ALGORITHMS[found[2]]
        key = own.private(kind)
        if method == "GET":
            return 200, {"pem": public_pem(key), "algorithm": algorithm, "name": found[1], "protectionLevel": "HSM"}
        return 200, {"signature": base64.b64encode(self._signature(key, json.loads(body))).decode(), "name": found[1]}

    @staticmethod
    def _signature(key: Any, asked: dict[str, Any]) -> bytes:
        if not isinstance(key, rsa.RSAPrivateKey):
            return bytes(key.sign(base64.b64decode(asked["digest"]["sha384"]), ec.ECDSA(Prehashed(SHA384()))))
        data = base64.b64decode(asked["data"])  # a RAW key pads what it is given, whatever it is
        numbers, size = key.private_numbers(), key.key_size // 8
        padded = b"\x00\x01" + b"\xff" * (size - len(data) - 3) + b"\x00" + data
        return pow(int.from_bytes(padded, "big"), numbers.d, numbers.public_numbers.n).to_bytes(size, "big")

    @staticmethod
    def _error(status: int, word: str) -> Answer:
        return status, {"error": {"code": status, "status": word, "message": "keva@example.com may not"}}


class Azure(Fake):
    """Key Vault, and as much of Entra ID as gives a token. Keys: `rsa`, `p384`, `p256`, and `wrap`, which may not sign."""

    KEYS: ClassVar = {"rsa": "3072", "p384": "p384", "p256": "p256", "wrap": "2048"}
    VERSION = "0123456789abcdef0123456789abcdef"

    def headers_of(self, status: int) -> dict[str, str]:
        challenge = 'Bearer authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"'
        return {"www-authenticate": challenge} if status == 401 else {}

    def answer(self, method: str, path: str, body: bytes, headers: Any) -> Answer:
        address = urlsplit(path).path
        if "openid-configuration" in address:
            host = "https://login.microsoftonline.com/tenant"
            return 200, {
                "token_endpoint": f"{host}/oauth2/v2.0/token",
                "authorization_endpoint": f"{host}/oauth2/v2.0/authorize",
                "issuer": f"{host}/v2.0",
            }
        if "/discovery/instance" in address:
            return 200, {
                "tenant_discovery_endpoint": "https://login.microsoftonline.com/tenant/v2.0/.well-known/openid-configuration"
            }
        if address.endswith("/oauth2/v2.0/token"):
            return 200, {"access_token": "fake", "expires_in": 3600, "token_type": "Bearer"}
        if headers.get("authorization") != "Bearer fake":
            return 401, {"error": {"code": "Unauthorized", "message": "no token"}}
        found = re.fullmatch(r"/keys/(\w+)/(\w*)(/sign)?", address)
        if found is None or found[1] not in self.KEYS or found[2] not in ("", self.VERSION):
            return 404, {"error": {"code": "KeyNotFound", "message": "keva"}}
        key = own.private(self.KEYS[found[1]])
        kid = f"https://my-vault.vault.azure.net/keys/{found[1]}/{self.VERSION}"
        if method == "GET":
            jwk = {"kid": kid, "key_ops": ["wrapKey"] if found[1] == "wrap" else ["sign", "verify"], **_jwk(key)}
            return 200, {
                "key": jwk,
                "attributes": {"enabled": True, "created": int(time.time()), "updated": int(time.time())},
            }
        asked = json.loads(body)
        digest = base64.urlsafe_b64decode(asked["value"] + "==")
        if isinstance(key, rsa.RSAPrivateKey):
            good, signature = asked["alg"] == "RS384", key.sign(digest, padding.PKCS1v15(), Prehashed(SHA384()))
        else:
            good, signature = asked["alg"] == "ES384", raw(key.sign(digest, ec.ECDSA(Prehashed(SHA384()))))
        return (200, {"kid": kid, "value": _base64url(signature)}) if good else (400, {"error": {"code": "BadParameter"}})


def _jwk(key: Any) -> dict[str, Any]:
    public = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return {"kty": "RSA", "n": _base64url(public.n.to_bytes(key.key_size // 8, "big")), "e": "AQAB"}
    size = key.key_size // 8
    crv = f"P-{key.key_size}"
    return {
        "kty": "EC",
        "crv": crv,
        "x": _base64url(public.x.to_bytes(size, "big")),
        "y": _base64url(public.y.to_bytes(size, "big")),
    }


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Proxy:
    """A proxy that leads every host to one port of this machine: the vendors' libraries go to their real host names."""

    def __init__(self, port: int) -> None:
        self.hosts: list[str] = []
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open = True
        self._begin(self._accept)

    def stop(self) -> None:
        self._open = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while self._open:
            with suppress(OSError):
                client, _ = self._listener.accept()
                self._begin(lambda client=client: self._serve(client))

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += client.recv(4096) or b"\r\n\r\n"
            self.hosts.append(asked.split()[1].decode().partition(":")[0])
            with socket.create_connection(("127.0.0.1", self._port)) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._begin(lambda: self._pass(server, client))
                self._pass(client, server)

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    @staticmethod
    def _begin(work: Callable[[], None]) -> None:
        Thread(target=work, daemon=True).start()
