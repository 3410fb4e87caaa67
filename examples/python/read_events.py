"""Prints the outcome of each job: its type, its jobId, and whether it is a repeat.

    AMQP_URL=amqp://user:password@host/vhost python read_events.py [NUMBER OF EVENTS]

Without a number it reads until it is stopped.
"""

import json
import os
import sys

import pika

PREFIX = os.environ.get("PLU_PREFIX", "plu.onboarding")
# A queue of your own. Each queue gets all events; the readers of one queue share them.
QUEUE = os.environ.get("EVENTS_QUEUE", f"crm.{PREFIX}-events")


def main():
    left = int(sys.argv[1]) if len(sys.argv) > 1 else None

    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    # Durable and replicated, so that events wait while the reader is down.
    channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_bind(QUEUE, f"{PREFIX}.events", routing_key="user.#")
    channel.basic_qos(prefetch_count=100)

    # Events are delivered at least once; a repeat has the same id. An event without a link (recovered) may be followed
    # by one with the link, if the answer arrived late: add the link to the stored outcome. Store the ids together with
    # the outcomes, in one transaction; this example keeps them in memory.
    has_link = {}
    for method, properties, body in channel.consume(QUEUE):
        event = json.loads(body)
        link = event.get("verificationUrl")
        if properties.message_id not in has_link:
            note = ""
            # Your work goes here: store event.get("serviceId"), send the link to the customer where there is one.
        elif link and not has_link[properties.message_id]:
            note = "(now with its link)"
            # And here: send the link.
        else:
            note = "(repeat)"
        has_link[properties.message_id] = has_link.get(properties.message_id) or bool(link)
        print(event["type"], event["jobId"], note, flush=True)
        # Acknowledge last: the broker delivers unacknowledged events again.
        channel.basic_ack(method.delivery_tag)
        if left is not None:
            left -= 1
            if left == 0:
                break
    channel.cancel()
    connection.close()


if __name__ == "__main__":
    main()
