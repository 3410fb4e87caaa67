"""Puts one job on a lane and waits until the broker has it on disk.

    AMQP_URL=amqp://user:password@host/vhost python publish_job.py job.json [signup|bulk]

job.json holds {"jobId": "crm-1", "user": {...}}; ARCHITECTURE.md has the contract.
"""

import os
import sys
import time

import pika

PREFIX = os.environ.get("PLU_PREFIX", "plu.onboarding")


def main():
    path = sys.argv[1]
    lane = sys.argv[2] if len(sys.argv) > 2 else "signup"
    with open(path, "rb") as file:
        body = file.read()

    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    # Confirms: basic_publish returns once the broker has the job, and raises NackError where it doesn't take it.
    channel.confirm_delivery()
    channel.basic_publish(
        exchange=f"{PREFIX}.jobs",
        routing_key=lane,
        body=body,
        # No queue for it: raises UnroutableError. Without mandatory, the job would vanish without a word.
        mandatory=True,
        properties=pika.BasicProperties(
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent,
            # Names the job where the body has no jobId. Your own id, so that publishing again after an error is harmless.
            message_id=os.environ.get("MESSAGE_ID", os.path.basename(path)),
            # In seconds. Tells a user who was created by an earlier try from one who was there before.
            timestamp=int(time.time()),
            # The same in milliseconds, so that the worker's metrics say more than whole seconds.
            headers={"timestamp_in_ms": int(time.time() * 1000)},
        ),
    )
    connection.close()
    print(f"on the lane {lane}: {path}")


if __name__ == "__main__":
    main()
