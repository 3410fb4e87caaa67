// Prints the outcome of each job: its type, its jobId and whether it came before.
//
//     AMQP_URL=amqp://user:password@host/vhost node read-events.js [NUMBER OF EVENTS]
//
// Without a number it reads until it is stopped.

import amqp from "amqplib";

const prefix = process.env.PLU_PREFIX ?? "plu.onboarding";
// A queue of your own: every reader of one queue gets a part of the events, every queue gets all of them.
const queue = process.env.EVENTS_QUEUE ?? `crm.${prefix}-events`;
let left = Number(process.argv[2] ?? Infinity);

const connection = await amqp.connect(process.env.AMQP_URL);
const channel = await connection.createChannel();
// Durable and on several nodes, so that events wait for you while you are away.
await channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": "quorum" } });
await channel.bindQueue(queue, `${prefix}.events`, "user.#");
await channel.prefetch(100);

// Events come at least once, with the same id. One without a link (recovered) may be followed by one that has it, where the answer
// came late after all: the link completes the first. Keep the ids where you keep the outcome, in one transaction; memory is for
// the example.
const hasLink = new Map();

await channel.consume(queue, async (message) => {
  // null: the queue was deleted. Events beyond the number that was asked for stay in the queue.
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
  // Only now: what isn't acknowledged comes again.
  channel.ack(message);
  left -= 1;
  if (left === 0) {
    await channel.close();
    await connection.close();
  }
});
