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

// Events come at least once. Keep the ids where you keep the outcome, in one transaction; memory is for the example.
const seen = new Set();

await channel.consume(queue, async (message) => {
  // null: the queue was deleted. Events beyond the number that was asked for stay in the queue.
  if (message === null) throw new Error("the queue was deleted");
  if (left === 0) return;
  const event = JSON.parse(message.content);
  const repeat = seen.has(message.properties.messageId);
  if (!repeat) {
    seen.add(message.properties.messageId);
    // Your work goes here: store event.serviceId, send event.verificationUrl to the customer.
  }
  console.log(event.type, event.jobId, repeat ? "(repeat)" : "");
  // Only now: what isn't acknowledged comes again.
  channel.ack(message);
  left -= 1;
  if (left === 0) {
    await channel.close();
    await connection.close();
  }
});
