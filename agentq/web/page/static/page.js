// What the page does beside htmx: times in the reader's zone, and a stream that did not begin is begun again.
// Everything works without it, and without JavaScript at all.
(() => {
  const units = [[60, "s", 1], [3600, "m", 60], [86400, "h", 3600], [Infinity, "d", 86400]];
  const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

  function words(ms) {
    const seconds = Math.floor(Math.abs(ms) / 1000);
    const [, unit, size] = units.find(([limit]) => seconds < limit);
    const age = `${Math.floor(seconds / size)} ${unit}`;
    return ms < -999 ? `in ${age}` : `${age} ago`;
  }

  // The server's clock may differ from the reader's: what it called "now" is the measure.
  let ahead = null;

  function tell(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (!time.dataset.told) {
        time.title = moment.format(at);
        time.dataset.told = "1";
      }
      const text = words(Date.now() + ahead - at);
      if (time.textContent !== text) time.textContent = text;
    }
  }

  function start() {
    ahead = Number(document.querySelector('meta[name="now"]').content) - Date.now();
    tell(document);
    setInterval(() => tell(document), 1000);
  }

  document.addEventListener("htmx:after:swap", () => tell(document));
  document.addEventListener("reload", () => location.reload());
  // Whoever is not signed in any more was sent elsewhere; nothing of that belongs into this page.
  document.addEventListener("htmx:after:request", (event) => {
    if (!event.detail.ctx.response?.raw.redirected) return;
    event.preventDefault();
    location.reload();
  });
  // Whether what is seen is live: a lost connection begins again by itself, from where it was.
  function tellLink(event) {
    const link = event.target.querySelector?.(".link");
    if (!link) return;
    const lost = event.type === "htmx:sse:error";
    link.classList.toggle("is-lost", lost);
    link.textContent = lost ? "Connection lost, trying again" : event.type === "htmx:sse:close" ? "" : "Live";
  }

  for (const name of ["after:connection", "error", "close"]) document.addEventListener(`htmx:sse:${name}`, tellLink);
  // A session shows what its run has said as messages, when that has ended.
  document.addEventListener("done", (event) => {
    if (event.target.dataset.then === "load") location.reload();
  });
  for (const name of ["htmx:response:error", "htmx:error"]) {
    document.addEventListener(name, (event) => {
      if (event.target.id === "live") setTimeout(() => htmx.trigger(event.target, "again"), 2000);
    });
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
