"""Prints the outcome of each job: its type, its jobId and whether it came before.

    AMQP_URL=amqp://user:password@host/vhost python read_events.py [NUMBER OF EVENTS]

Without a number it reads until it is stopped.
"""

import json
import os
import sys

import pika

PREFIX = os.environ.get("PLU_PREFIX", "plu.onboarding")
# A queue of your own: every reader of one queue gets a part of the events, every queue gets all of them.
QUEUE = os.environ.get("EVENTS_QUEUE", f"crm.{PREFIX}-events")


def main():
    left = int(sys.argv[1]) if len(sys.argv) > 1 else None

    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    # Durable and on several nodes, so that events wait for you while you are away.
    channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_bind(QUEUE, f"{PREFIX}.events", routing_key="user.#")
    channel.basic_qos(prefetch_count=100)

    # Events come at least once. Keep the ids where you keep the outcome, in one transaction; memory is for the example.
    seen = set()
    for method, properties, body in channel.consume(QUEUE):
        event = json.loads(body)
        repeat = properties.message_id in seen
        if not repeat:
            seen.add(properties.message_id)
            # Your work goes here: store event.get("serviceId"), send event.get("verificationUrl") to the customer.
        print(event["type"], event["jobId"], "(repeat)" if repeat else "", flush=True)
        # Only now: what isn't acknowledged comes again.
        channel.basic_ack(method.delivery_tag)
        if left is not None:
            left -= 1
            if left == 0:
                break
    channel.cancel()
    connection.close()


if __name__ == "__main__":
    main()
