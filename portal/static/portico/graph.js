// The graph as a picture: drawn from the list beside it, which has the same things for who reads or hears it.
(() => {
  "use strict";
  const box = document.querySelector("[data-graph]");
  const canvas = box?.querySelector(".po-graphcanvas");
  if (!canvas || !window.cytoscape || !canvas.offsetWidth) return; // where there is no room, the list stands alone
  const $ = (selector) => box.querySelector(selector);
  const [say, card] = [$("[data-graph-say]"), $("[data-graph-card]")];
  const words = box.dataset;
  const BIG = 150; // from here on, what costs while moving is left out
  const HEIGHT = 40;
  const worker = new Worker(words.worker);
  let drawing, cy, asked = 0;

  // -- Colours, as the theme has them now -------------------------------------------------------------------
  const probe = document.createElement("i");
  probe.hidden = true;
  document.body.append(probe);
  const colour = (token) => {
    probe.style.color = `var(--po-${token})`;
    return getComputedStyle(probe).color;
  };
  const look = () => {
    const [surface, text, text2, line, focus, soft] = ["surface", "text", "text-2", "border-control", "focus", "soft"].map(colour);
    const big = drawing.nodes.length > BIG;
    return [
      { selector: "node", style: {
        shape: "round-rectangle", width: "data(w)", height: HEIGHT, "background-color": surface, "border-width": 1.5,
        "border-color": "data(hue)", label: "data(label)", color: text, "font-family": getComputedStyle(document.body).fontFamily,
        "font-size": 12, "text-valign": "center", "text-wrap": "wrap", "line-height": 1.25, "min-zoomed-font-size": 5 } },
      { selector: "node.root", style: { "background-color": soft, "border-width": 3 } },
      { selector: "node.missing", style: { "border-style": "dashed", color: text2 } },
      { selector: "node:selected", style: { "border-color": focus, "border-width": 4 } },
      { selector: "edge", style: {
        width: 1.5, "line-color": line, "target-arrow-color": line, "target-arrow-shape": "triangle", "arrow-scale": 0.9,
        "curve-style": big ? "haystack" : "bezier", opacity: big ? 0.35 : 1 } },
      { selector: "edge.tie", style: { "line-style": "dashed" } },
      { selector: big ? "edge.near" : "edge.near, edge.few", style: {
        label: "data(label)", color: text2, "font-size": 10, "text-background-color": surface, "text-background-opacity": 0.85,
        "text-background-padding": 2, "min-zoomed-font-size": 7 } },
      { selector: "edge.near", style: { "line-color": focus, "target-arrow-color": focus, width: 2.5, opacity: 1 } },
    ];
  };

  // -- What is drawn ----------------------------------------------------------------------------------------
  const pen = document.createElement("canvas").getContext("2d");
  const short = (text) => (text.length > 30 ? `${text.slice(0, 29)}…` : text);
  const second = (node) => (node.more ? `${node.kind} · +${node.more}` : node.kind);
  const measured = (node) => {
    pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    return Math.ceil(Math.max(pen.measureText(short(node.title)).width, pen.measureText(second(node)).width)) + 24;
  };
  const read = () => JSON.parse(document.getElementById("po-graph-data").value);
  const elements = () => {
    const few = drawing.edges.length <= 40;
    return [
      ...drawing.nodes.map((node, n) => ({
        data: { id: `n${n}`, n, w: node.w, hue: colour(node.hue), label: `${short(node.title)}\n${second(node)}` },
        classes: [node.level === 0 && "root", node.missing && "missing"].filter(Boolean),
      })),
      ...drawing.edges.map(([from, to, label, tie], n) => ({
        data: { id: `e${n}`, source: `n${from}`, target: `n${to}`, label },
        classes: [tie && "tie", few && "few"].filter(Boolean),
      })),
    ];
  };
  const draw = (places, keep) => {
    const big = drawing.nodes.length > BIG;
    cy?.destroy();
    cy = cytoscape({
      container: canvas, elements: elements(), style: look(), minZoom: 0.05, maxZoom: 2.5, boxSelectionEnabled: false,
      pixelRatio: big ? 1 : "auto", textureOnViewport: big, hideEdgesOnViewport: big,
      layout: { name: "preset", positions: (node) => ({ x: places[node.data("n")][0], y: places[node.data("n")][1] }) },
      userZoomingEnabled: document.activeElement === canvas,
    });
    cy.on("tap", "node", ({ target }) => {
      canvas.focus({ preventScroll: true });
      if (target.selected()) expand(target.data("n")); // a second click, or that of who walked here
    });
    cy.on("select", "node", ({ target }) => show(target));
    cy.on("unselect", "node", () => hide());
    fit();
    const again = drawing.nodes.findIndex((node) => node.ref === keep);
    if (again >= 0) cy.getElementById(`n${again}`).select();
    box.dataset.drawn = drawing.nodes.length;
  };
  const fit = () => { cy.fit(undefined, 24); if (cy.zoom() > 1.1) { cy.zoom(1.1); cy.center(); } };
  const lay = (keep) => {
    drawing.nodes.forEach((node) => { node.w = measured(node); });
    asked += 1;
    worker.postMessage({
      asked, layout: drawing.layout, dagre: words.dagre, cytoscape: words.cytoscape,
      nodes: drawing.nodes.map((node) => [node.w, HEIGHT]), levels: drawing.nodes.map((node) => node.level), edges: drawing.edges,
    });
    worker.onmessage = ({ data }) => { if (data.asked === asked) draw(data.places, keep); };
  };

  // -- One thing --------------------------------------------------------------------------------------------
  const beginning = (node) => { const url = new URL(drawing.url, location.href); url.searchParams.set("entity", node.ref); return `${url.pathname}${url.search}`; };
  const show = (target) => {
    const node = drawing.nodes[target.data("n")];
    cy.edges().removeClass("near");
    target.connectedEdges().addClass("near");
    Object.assign($("[data-graph-title]"), { textContent: node.title, href: node.url });
    $("[data-graph-kind]").textContent = node.kind;
    $("[data-graph-owner]").textContent = node.owner ? `· ${node.owner}` : "";
    $("[data-graph-ref]").textContent = node.ref;
    $("[data-graph-open]").hidden = !node.more;
    $("[data-graph-begin]").href = beginning(node);
    $("[data-graph-begin]").hidden = $("[data-graph-impact]").hidden = Boolean(node.missing);
    $("[data-graph-impact]").href = `/graph/impact?entity=${encodeURIComponent(node.ref)}`;
    card.hidden = false;
    const ways = drawing.edges.filter(([from, to]) => [from, to].includes(target.data("n")));
    const told = ways.slice(0, 5).map(([from, to, label]) => `${drawing.nodes[from].title} ${label} ${drawing.nodes[to].title}`);
    say.textContent = [`${node.title}, ${node.kind}`, ...told, node.more ? `${node.more} ${words.more}` : ""].filter(Boolean).join("; ");
  };
  const hide = () => { card.hidden = true; cy.edges().removeClass("near"); };
  const chosen = () => { const found = cy?.$("node:selected"); return found?.length ? found[0] : null; };
  const load = async (url, keep) => {
    const answer = await fetch(url, { headers: { "HX-Request": "true" } }).catch(() => null);
    if (!answer?.ok || answer.redirected && !answer.url.includes("/graph")) return portico.toast(words.failed);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of ["#po-graph-twin", ".po-facets"]) {
      const [old, fresh] = [document.querySelector(part), page.querySelector(part)];
      if (fresh) { if (old.open) fresh.open = true; old.replaceWith(fresh); }
    }
    drawing = read();
    lay(keep);
    return true;
  };
  const expand = async (n) => {
    const node = drawing.nodes[n];
    if (!node.more) { say.textContent = words.none; return; }
    const url = new URL(drawing.url, location.href);
    url.searchParams.set("open", [...drawing.open, node.ref].join(","));
    const before = drawing.nodes.length;
    if (await load(url, node.ref)) {
      history.replaceState(history.state, "", url); // no step of its own: Back leads to the page before
      if (drawing.nodes.length === before) portico.toast(words.full);
    }
  };
  const walk = (key) => {
    const [dx, dy] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
    const from = chosen();
    let next;
    if (!from) next = cy.$("node.root")[0];
    else {
      const at = from.position();
      const rated = (nodes) => nodes.filter((one) => one !== from).map((one) => {
        const [x, y] = [one.position("x") - at.x, one.position("y") - at.y];
        const [along, aside] = [x * dx + y * dy, Math.abs(x * dy) + Math.abs(y * dx)];
        return { one, along, cost: along + 2 * aside };
      }).filter(({ along }) => along > 1).sort((a, b) => a.cost - b.cost);
      const ahead = rated(from.neighborhood("node").toArray()).filter(({ along, cost }) => cost < 5 * along);
      next = (ahead[0] ?? rated(cy.nodes().toArray())[0])?.one;
    }
    if (!next) return;
    from?.unselect();
    next.select();
    const { x, y } = next.renderedPosition();
    if (x < 40 || y < 40 || x > canvas.clientWidth - 40 || y > canvas.clientHeight - 40) cy.center(next);
  };
  const zoom = (by) => cy.zoom({ level: cy.zoom() * by, renderedPosition: { x: canvas.clientWidth / 2, y: canvas.clientHeight / 2 } });
  canvas.addEventListener("keydown", (event) => {
    if (!cy || event.ctrlKey || event.metaKey || event.altKey) return;
    const node = chosen() && drawing.nodes[chosen().data("n")];
    const acts = {
      ArrowRight: () => walk(event.key), ArrowLeft: () => walk(event.key), ArrowUp: () => walk(event.key), ArrowDown: () => walk(event.key),
      Enter: () => { if (node) event.shiftKey ? (location.href = beginning(node)) : expand(chosen().data("n")); },
      Escape: () => chosen()?.unselect(),
      "+": () => zoom(1.25), "-": () => zoom(0.8), 0: fit,
      o: () => { if (node && document.documentElement.dataset.keys !== "off") location.href = node.url; },
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  });
  // The wheel scrolls the page, and zooms once one is in here.
  canvas.addEventListener("focus", () => cy?.userZoomingEnabled(true));
  canvas.addEventListener("blur", () => cy?.userZoomingEnabled(false));
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-graph-open]")) return expand(chosen().data("n"));
    if (event.target.closest("[data-graph-fit]")) return fit();
    const save = event.target.closest("[data-graph-save]");
    if (save) return saving[save.dataset.graphSave]();
    const open = event.target.closest("a[data-open]");
    const n = open ? drawing.nodes.findIndex((one) => one.ref === open.dataset.open) : -1;
    if (n < 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    expand(n);
  });

  // -- Files ------------------------------------------------------------------------------------------------
  const keep = (blob, ending) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${drawing.name.replace(/[^\w.-]+/g, "-").toLowerCase() || "graph"}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
  const clean = (text) => text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "").replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
  // Where a line from the middle of a thing leaves its box.
  const edgeOf = (from, to) => {
    const [w, h] = [from.data("w") / 2, HEIGHT / 2];
    const [dx, dy] = [to.position("x") - from.position("x"), to.position("y") - from.position("y")];
    const by = Math.min(Math.abs(w / (dx || 0.001)), Math.abs(h / (dy || 0.001)), 1);
    return [from.position("x") + dx * by, from.position("y") + dy * by].map((one) => one.toFixed(1));
  };
  const svg = () => {
    const [surface, text, text2, line] = ["surface", "text", "text-2", "border-control"].map(colour);
    const { x1, y1, w, h } = cy.elements().boundingBox();
    const parts = cy.edges().toArray().map((edge) => {
      if (edge.source() === edge.target()) return "";
      const [[ax, ay], [bx, by]] = [edgeOf(edge.source(), edge.target()), edgeOf(edge.target(), edge.source())];
      const dash = edge.hasClass("tie") ? ' stroke-dasharray="6 4"' : "";
      const name = drawing.edges.length <= 40 ? `<text x="${(+ax + +bx) / 2}" y="${(+ay + +by) / 2}" font-size="10" fill="${text2}" stroke="${surface}" stroke-width="3" paint-order="stroke" text-anchor="middle">${clean(edge.data("label"))}</text>` : "";
      return `<path d="M${ax} ${ay}L${bx} ${by}" stroke="${line}" stroke-width="1.5" marker-end="url(#a)"${dash}><title>${clean(edge.data("label"))}</title></path>${name}`;
    });
    cy.nodes().forEach((one) => {
      const [node, { x, y }, width] = [drawing.nodes[one.data("n")], one.position(), one.data("w")];
      parts.push(`<g><title>${clean(node.ref)}</title><rect x="${(x - width / 2).toFixed(1)}" y="${(y - HEIGHT / 2).toFixed(1)}" width="${width}" height="${HEIGHT}" rx="6" fill="${surface}" stroke="${colour(node.hue)}" stroke-width="${node.level ? 1.5 : 3}"${node.missing ? ' stroke-dasharray="4 3"' : ""}/>`
        + `<text x="${x.toFixed(1)}" y="${(y - 3).toFixed(1)}" font-size="12" fill="${text}" text-anchor="middle">${clean(short(node.title))}</text><text x="${x.toFixed(1)}" y="${(y + 12).toFixed(1)}" font-size="12" fill="${text2}" text-anchor="middle">${clean(second(node))}</text></g>`);
    });
    return `<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="${x1 - 24} ${y1 - 24} ${w + 48} ${h + 48}" width="${Math.ceil(w + 48)}" height="${Math.ceil(h + 48)}" font-family="Inter, system-ui, sans-serif"><title>${clean(drawing.name)}</title><defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="${line}"/></marker></defs><rect x="${x1 - 24}" y="${y1 - 24}" width="100%" height="100%" fill="${surface}"/>${parts.join("")}</svg>\n`;
  };
  const saving = {
    svg: () => keep(new Blob([svg()], { type: "image/svg+xml" }), "svg"),
    png: async () => keep(await cy.png({ output: "blob-promise", full: true, scale: 2, bg: colour("surface"), maxWidth: 8000, maxHeight: 8000 }), "png"),
  };

  const recolour = () => {
    cy?.nodes().forEach((one) => { one.data("hue", colour(drawing.nodes[one.data("n")].hue)); });
    cy?.style(look());
  };
  new MutationObserver(recolour).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  new ResizeObserver(() => cy?.resize()).observe(canvas);
  drawing = read();
  document.fonts.ready.then(() => lay());
})();
