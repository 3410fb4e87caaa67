// Prints the outcome of each job: its type, its jobId, and whether it is a repeat.
//
//     AMQP_URL=amqp://user:password@host/vhost node read-events.js [NUMBER OF EVENTS]
//
// Without a number it reads until it is stopped.

import amqp from "amqplib";

const prefix = process.env.PLU_PREFIX ?? "plu.onboarding";
// A queue of your own. Each queue gets all events; the readers of one queue share them.
const queue = process.env.EVENTS_QUEUE ?? `crm.${prefix}-events`;
let left = Number(process.argv[2] ?? Infinity);

const connection = await amqp.connect(process.env.AMQP_URL);
const channel = await connection.createChannel();
// Durable and replicated, so that events wait while the reader is down.
await channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": "quorum" } });
await channel.bindQueue(queue, `${prefix}.events`, "user.#");
await channel.prefetch(100);

// Events are delivered at least once; a repeat has the same id. An event without a link (recovered) may be followed by
// one with the link, if the answer arrived late: add the link to the stored outcome. Store the ids together with the
// outcomes, in one transaction; this example keeps them in memory.
const hasLink = new Map();

await channel.consume(queue, async (message) => {
  // null means that the queue was deleted. Events beyond the requested number stay in the queue.
  if (message === null) throw new Error("the queue was deleted");
  if (left === 0) return;
  const event = JSON.parse(message.content);
  const id = message.properties.messageId;
  let note = "(repeat)";
  if (!hasLink.has(id)) {
    note = "";
    // Your work goes here: store event.serviceId, send event.verificationUrl to the customer where there is one.
  } else if (event.verificationUrl && !hasLink.get(id)) {
    note = "(now with its link)";
    // And here: send the link.
  }
  hasLink.set(id, hasLink.get(id) || Boolean(event.verificationUrl));
  console.log(event.type, event.jobId, note);
  // Acknowledge last: the broker delivers unacknowledged events again.
  channel.ack(message);
  left -= 1;
  if (left === 0) {
    await channel.close();
    await connection.close();
  }
});
