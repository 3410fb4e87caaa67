#!/usr/bin/env python3
"""Creates deploy/secrets/ for compose.yaml: random passwords, and a file for the API key. Never overwrites a file."""

import base64
import hashlib
import json
import os
import secrets
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "secrets"


def password_hash(password: str) -> str:
    """RabbitMQ's rabbit_password_hashing_sha256: four bytes of salt, then SHA-256 of salt and password."""
    salt = os.urandom(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def write(name: str, text: str) -> None:
    path = FOLDER / name
    if path.exists():
        print(f"kept {path}")
        return
    # Compose mounts secret files with their own mode, and the containers' users (65532, 999, 472) must be able to read
    # them. The folder is accessible by its owner only.
    path.write_text(text)
    path.chmod(0o644)
    print(f"wrote {path}")


def main() -> None:
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    users_file, worker_file = FOLDER / "rabbitmq-users.json", FOLDER / "worker.toml"
    if users_file.exists() != worker_file.exists():
        raise SystemExit(f"{users_file} and {worker_file} must hold the same password: remove the one that exists")
    password = secrets.token_urlsafe(24)
    users = {
        "users": [
            {
                "name": "plu-onboard",
                "password_hash": password_hash(password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": ["management"],
            }
        ],
        "vhosts": [{"name": "/"}],
        "permissions": [{"user": "plu-onboard", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
    }
    write("rabbitmq-users.json", json.dumps(users, indent=2) + "\n")
    rate_limit = "# Requests per second of all workers together. Reloaded with SIGHUP.\n[rate_limit]\nrate = 20\n"
    write("worker.toml", f'[queue]\nurl = "amqp://plu-onboard:{password}@rabbitmq/%2f"\n\n{rate_limit}')
    write("grafana-password", secrets.token_urlsafe(18))
    write("plu-api-key", "put-the-key-here\n")


if __name__ == "__main__":
    main()
