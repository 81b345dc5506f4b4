"""The security settings of this process for Kafka, in the terms of the client libraries. Callers that make a
client need not pass them on: clients read the settings, as those of a cloud read their credentials. A bridge
passes those of the foreign Kafka.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from driftline.streams.connection.renewed_context import RenewedContext

if TYPE_CHECKING:
    from driftline.settings import KafkaSecurity


def own_security() -> KafkaSecurity:
    """The security settings of the log's Kafka; raises SettingsError."""
    from driftline.setting_sources import read
    from driftline.settings import SettingValues

    return read(SettingValues).security


def arguments(security: KafkaSecurity, token_provider: type[Any]) -> dict[str, Any]:
    """The arguments of kafka-python and aiokafka for it; `token_provider` reads the file with the token.

    Raises SettingsError for a certificate or key that cannot be read.
    """
    named: dict[str, Any] = {"security_protocol": security.security_protocol}
    if security.is_encrypted:
        named["ssl_context"] = ssl_context(security)
    if security.sasl_token_file is not None:
        named |= {
            "sasl_mechanism": security.sasl_mechanism,
            "sasl_oauth_token_provider": token_provider(security.sasl_token_file),
        }
    elif security.sasl_password is not None:
        named |= {
            "sasl_mechanism": security.sasl_mechanism,
            "sasl_plain_username": security.sasl_username,
            "sasl_plain_password": security.sasl_password.get_secret_value(),
        }
    return named


def ssl_context(security: KafkaSecurity) -> RenewedContext:
    """One context for all libraries, which would otherwise each make one with other defaults. A broker's
    certificate is always verified; checking its host name is a setting. Files that change are read again.
    """
    files = security.ssl_cafile, security.ssl_certfile, security.ssl_keyfile
    return RenewedContext(lambda: _context(security), tuple(file for file in files if file is not None))


def _context(security: KafkaSecurity) -> ssl.SSLContext:
    from driftline.setting_sources import SettingsError

    name = "ssl_cafile"
    try:
        context = ssl.create_default_context(cafile=security.ssl_cafile)
        context.check_hostname = security.ssl_check_hostname
        if security.ssl_certfile is not None:
            name = "ssl_certfile, ssl_keyfile or ssl_password"
            password = security.ssl_password.get_secret_value() if security.ssl_password else ""
            # without any password OpenSSL asks for one at the terminal
            context.load_cert_chain(security.ssl_certfile, security.ssl_keyfile, password)
    except (OSError, ValueError) as error:  # ssl's errors are OSErrors
        files = (security.ssl_cafile, security.ssl_certfile, security.ssl_keyfile)
        raise SettingsError(f"{name}: {error} ({', '.join(str(one) for one in files if one)})") from None
    return context
