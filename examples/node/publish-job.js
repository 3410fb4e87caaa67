// Publishes one job to a lane and waits until the broker has it on disk.
//
//     AMQP_URL=amqp://user:password@host/vhost node publish-job.js job.json [signup|bulk]
//
// job.json holds {"jobId": "crm-1", "user": {...}}; docs/contract.md has the contract.

import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import amqp from "amqplib";

const prefix = process.env.PLU_PREFIX ?? "plu.onboarding";
const [path, lane = "signup"] = process.argv.slice(2);

const connection = await amqp.connect(process.env.AMQP_URL);
const channel = await connection.createConfirmChannel();

// With mandatory, the broker returns a job for which there is no queue, before the confirm. Otherwise it would drop it.
let returned = false;
channel.on("return", () => {
  returned = true;
});

channel.publish(`${prefix}.jobs`, lane, await readFile(path), {
  contentType: "application/json",
  persistent: true,
  mandatory: true,
  // Id of the job if the body has no jobId. Use your own id, so that publishing again after an error is safe.
  messageId: process.env.MESSAGE_ID ?? basename(path),
  // In seconds. The worker compares it with the creation time of a user with this email: an older user existed before.
  timestamp: Math.floor(Date.now() / 1000),
  // The same in milliseconds, for the worker's metrics.
  headers: { timestamp_in_ms: Date.now() },
});
// Throws if the broker refuses the job.
await channel.waitForConfirms();
await connection.close();

if (returned) throw new Error(`no queue accepts jobs of the lane ${lane}`);
console.log(`published to the lane ${lane}: ${path}`);
