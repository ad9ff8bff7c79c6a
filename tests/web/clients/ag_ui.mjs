// An AG-UI agent over HTTP whose `fetch` goes on where it was cut off: posts again with the number of the last frame.
import { HttpAgent } from "@ag-ui/client";
import { done, given, pause } from "./shared.mjs";

const { url, threadId, text, approves } = given();
let cuts = 0;

// The bytes of one run, however many connections they came over. Frames that did not come whole are left out.
function resuming(url, options) {
  let last = "";
  const ask = async () => {
    for (;;) {
      try {
        return await fetch(url, { ...options, headers: { ...options.headers, ...(last && { "Last-Event-ID": last }) } });
      } catch (error) {
        cuts += 1;
        await pause(10);
      }
    }
  };
  return ask().then((first) => {
    if (!first.ok) return first;
    const frames = new ReadableStream({
      async start(controller) {
        for (let answer = first; ; answer = await ask()) {
          let text = "";
          const decoder = new TextDecoder();
          try {
            for await (const bytes of answer.body) {
              text += decoder.decode(bytes, { stream: true });
              const blocks = text.split("\n\n");
              text = blocks.pop();
              for (const block of blocks) {
                last = /^id: (.*)$/m.exec(block)?.[1] ?? last;
                controller.enqueue(new TextEncoder().encode(`${block}\n\n`));
              }
            }
            return controller.close();
          } catch (error) {
            cuts += 1;
            await pause(10);
          }
        }
      },
    });
    return new Response(frames, { headers: first.headers });
  });
}

const agent = new HttpAgent({ url, threadId, fetch: resuming });
agent.addMessage({ id: "u1", role: "user", content: text });
const outcomes = [];
const events = [];
const subscriber = {
  onEvent: ({ event }) => void events.push(event.type),
  onRunFinishedEvent: ({ outcome }) => void outcomes.push(outcome),
};
let { result } = await agent.runAgent({ runId: `${threadId}-0` }, subscriber);
for (let turn = 1; agent.pendingInterrupts.length; turn += 1) {
  const resume = agent.pendingInterrupts.map(({ id }) => ({
    interruptId: id,
    status: "resolved",
    payload: { approved: approves, reason: "so it is" },
  }));
  ({ result } = await agent.runAgent({ runId: `${threadId}-${turn}`, resume }, subscriber));
}
done({ messages: agent.messages, outcomes, result, cuts, events });
