"""TLS, mutual TLS, reload of certificates, and what is wrong with files."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc
import pytest

from runtime.errors import ConfigError
from runtime.transport.credentials import TlsFiles, server_credentials
from tests.transport.certificates import make_certificate
from tests.transport.rig import OWN_CONNECTION, WAIT_S


@pytest.fixture(scope="module")
def pairs():
    return make_certificate(), make_certificate()


@pytest.fixture
def files(tmp_path, pairs):
    made = TlsFiles(certificate_file=tmp_path / "server.pem", key_file=tmp_path / "server.key")
    made.certificate_file.write_bytes(pairs[0].certificate)
    made.key_file.write_bytes(pairs[0].key)
    return made


def call(rig, authority, client=None, method="/t.T/Echo"):
    shown = (client.key, client.certificate) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.certificate, *shown)
    with grpc.secure_channel(f"localhost:{rig.port}", credentials, options=(OWN_CONNECTION,)) as channel:
        return channel.unary_unary(method)(b"s", timeout=WAIT_S)


def refused(rig, *arguments):
    with pytest.raises(grpc.RpcError) as caught:
        call(rig, *arguments)
    return caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def test_tls_serves_who_trusts_the_certificate(make_rig, files, pairs):
    rig = make_rig(credentials=server_credentials(files))
    assert call(rig, pairs[0]) == b"s"
    assert refused(rig, pairs[1])


def test_plain_client_gets_nothing_from_a_tls_port(make_rig, files):
    rig = make_rig(credentials=server_credentials(files))
    with rig.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/t.T/Echo")(b"s", timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_mutual_tls_demands_a_certificate_of_the_authority(make_rig, files, pairs, tmp_path):
    authority = tmp_path / "clients.pem"
    authority.write_bytes(pairs[1].certificate)
    mutual = TlsFiles(
        certificate_file=files.certificate_file, key_file=files.key_file, client_ca_file=authority
    )
    rig = make_rig(credentials=server_credentials(mutual))
    names = []
    rig.server.add_unary(
        "/t.T/Name",
        lambda call: (names.extend(call.auth_context()[b"x509_common_name"]), call.respond(b"")),
    )
    assert call(rig, pairs[0], pairs[1], "/t.T/Name") == b""
    assert names == [b"localhost"]
    assert refused(rig, pairs[0])
    assert refused(rig, pairs[0], pairs[0])


def test_changed_files_are_used_for_new_connections(make_rig, files, pairs):
    rig = make_rig(credentials=server_credentials(files))
    assert call(rig, pairs[0]) == b"s"
    files.certificate_file.write_bytes(pairs[1].certificate)
    files.key_file.write_bytes(pairs[1].key)
    assert call(rig, pairs[1]) == b"s"
    assert refused(rig, pairs[0])


def test_half_replaced_files_keep_the_old_ones_in_use(make_rig, files, pairs, caplog):
    rig = make_rig(credentials=server_credentials(files))
    with caplog.at_level(logging.WARNING, logger="runtime.transport.credentials"):
        files.certificate_file.write_bytes(pairs[1].certificate)
        assert call(rig, pairs[0]) == b"s"
        assert call(rig, pairs[0]) == b"s"
    assert [record.message for record in caplog.records] == ["tls_reload_failed"]
    files.key_file.write_bytes(pairs[1].key)
    assert call(rig, pairs[1]) == b"s"


def test_connection_outlives_a_reload(make_rig, files, pairs):
    rig = make_rig(credentials=server_credentials(files))
    credentials = grpc.ssl_channel_credentials(pairs[0].certificate)
    with grpc.secure_channel(f"localhost:{rig.port}", credentials) as channel:
        echo = channel.unary_unary("/t.T/Echo")
        assert echo(b"1") == b"1"
        files.certificate_file.write_bytes(pairs[1].certificate)
        files.key_file.write_bytes(pairs[1].key)
        assert call(rig, pairs[1]) == b"s"
        assert echo(b"2") == b"2"


def wrong(tmp_path: Path, pairs, case: str) -> TlsFiles:
    certificate, key, authority = tmp_path / "c", tmp_path / "k", tmp_path / "a"
    certificate.write_bytes(pairs[0].certificate)
    key.write_bytes(pairs[0].key)
    authority.write_bytes(pairs[0].certificate)
    if case == "no certificate":
        certificate.unlink()
    elif case == "certificate is no PEM":
        certificate.write_bytes(b"\x30\x82")
    elif case == "no key":
        key.unlink()
    elif case == "key is a certificate":
        key.write_bytes(pairs[0].certificate)
    elif case == "key of another":
        key.write_bytes(pairs[1].key)
    elif case == "encrypted key":
        key.write_bytes(pairs[0].encrypted_key)
    elif case == "no authority":
        authority.unlink()
    else:
        authority.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return TlsFiles(certificate_file=certificate, key_file=key, client_ca_file=authority)


@pytest.mark.parametrize(
    ("case", "option"),
    [
        ("no certificate", "certificate_file"),
        ("certificate is no PEM", "certificate_file"),
        ("no key", "key_file"),
        ("key is a certificate", "key_file"),
        ("key of another", "certificate_file"),
        ("encrypted key", "certificate_file"),
        ("no authority", "client_ca_file"),
        ("broken authority", "client_ca_file"),
    ],
)
def test_wrong_files_are_named(tmp_path, pairs, case, option):
    with pytest.raises(ConfigError) as caught:
        server_credentials(wrong(tmp_path, pairs, case))
    assert caught.value.field == option
    assert option in caught.value.message
