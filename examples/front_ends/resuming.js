// A `fetch` for AG-UI that goes on where it was cut off: it asks again, with the number of the last frame that came whole.
// A run id that the server knows attaches to its run, so asking again starts nothing twice.

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function resuming({ waitMs = 1000, onCut = () => {} } = {}) {
  return async (url, options) => {
    let last = "";
    const ask = async () => {
      for (;;) {
        const headers = { ...options.headers, ...(last && { "Last-Event-ID": last }) };
        try {
          return await fetch(url, { ...options, headers });
        } catch (error) {
          if (options.signal?.aborted) throw error;
          onCut();
          await pause(waitMs);
        }
      }
    };
    const first = await ask();
    if (!first.ok) return first;

    async function* frames() {
      for (let answer = first; ; answer = await ask()) {
        const decoder = new TextDecoder();
        let text = "";
        try {
          const reader = answer.body.getReader();
          for (let read = await reader.read(); !read.done; read = await reader.read()) {
            const blocks = (text + decoder.decode(read.value, { stream: true })).split("\n\n");
            text = blocks.pop();
            for (const block of blocks) {
              last = /^id: (.*)$/m.exec(block)?.[1] ?? last;
              yield new TextEncoder().encode(`${block}\n\n`);
            }
          }
          return;
        } catch (error) {
          if (options.signal?.aborted) throw error;
          onCut();
          await pause(waitMs);
        }
      }
    }

    const whole = frames();
    const body = new ReadableStream({
      async pull(controller) {
        const { done, value } = await whole.next();
        done ? controller.close() : controller.enqueue(value);
      },
    });
    return new Response(body, { headers: first.headers });
  };
}
