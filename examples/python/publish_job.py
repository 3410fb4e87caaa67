"""Publishes one job to a lane and waits until the broker has it on disk.

    AMQP_URL=amqp://user:password@host/vhost python publish_job.py job.json [signup|bulk]

job.json holds {"jobId": "crm-1", "user": {...}}; docs/contract.md has the contract.
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
    # Publisher confirms: basic_publish returns when the broker has the job, and raises NackError if it refuses it.
    channel.confirm_delivery()
    channel.basic_publish(
        exchange=f"{PREFIX}.jobs",
        routing_key=lane,
        body=body,
        # Raises UnroutableError if there is no queue for the job. Otherwise the broker would drop it.
        mandatory=True,
        properties=pika.BasicProperties(
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent,
            # Id of the job if the body has no jobId. Use your own id, so that publishing again after an error is safe.
            message_id=os.environ.get("MESSAGE_ID", os.path.basename(path)),
            # In seconds. The worker compares it with the creation time of a user with this email: an older user existed
            # before.
            timestamp=int(time.time()),
            # The same in milliseconds, for the worker's metrics.
            headers={"timestamp_in_ms": int(time.time() * 1000)},
        ),
    )
    connection.close()
    print(f"published to the lane {lane}: {path}")


if __name__ == "__main__":
    main()
