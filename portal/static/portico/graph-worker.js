// Where the things of a graph stand, worked out beside the page.
"use strict";
const layers = ({ nodes, edges }, down) => {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  const isBig = nodes.length > 150;
  graph.setGraph({ rankdir: down ? "TB" : "LR", nodesep: 16, ranksep: down ? 60 : 90, ranker: isBig ? "longest-path" : "network-simplex" });
  graph.setDefaultEdgeLabel(() => ({}));
  nodes.forEach(([width, height], n) => graph.setNode(String(n), { width, height }));
  edges.forEach(([from, to], n) => { if (from !== to) graph.setEdge(String(from), String(to), {}, String(n)); });
  dagre.layout(graph);
  return nodes.map((_, n) => { const { x, y } = graph.node(String(n)); return [x, y]; });
};
const rings = ({ nodes, levels }) => {
  const places = [];
  let radius = 0;
  for (let level = 0; level <= Math.max(...levels); level += 1) {
    const members = nodes.map((_, n) => n).filter((n) => levels[n] === level);
    if (!members.length) continue;
    // As many things as have room stand on one ring; the others on the next.
    while (members.length) {
      const widest = Math.max(...members.map((n) => nodes[n][0]));
      const first = level === 0 && radius === 0;
      if (!first) radius += Math.max(120, widest * 0.75);
      const room = first ? 1 : Math.max(6, Math.floor((2 * Math.PI * radius) / (widest * 0.6 + 40)));
      const part = members.splice(0, room);
      part.forEach((n, at) => {
        const turn = (2 * Math.PI * at) / part.length - Math.PI / 2;
        places[n] = first ? [0, 0] : [radius * 1.35 * Math.cos(turn), radius * Math.sin(turn)];
      });
    }
  }
  return places;
};
const free = ({ nodes, edges }) => {
  const graph = cytoscape({
    headless: true,
    styleEnabled: true,
    style: [{ selector: "node", style: { width: "data(w)", height: "data(h)" } }],
    elements: [
      ...nodes.map(([w, h], n) => ({ data: { id: `n${n}`, w, h } })),
      ...edges.filter(([from, to]) => from !== to).map(([from, to]) => ({ data: { source: `n${from}`, target: `n${to}` } })),
    ],
  });
  graph.layout({ name: "cose", animate: false, randomize: true, fit: false, boundingBox: { x1: 0, y1: 0, w: 1600, h: 1000 }, nodeOverlap: 24, nodeRepulsion: () => 60000, idealEdgeLength: () => 90, numIter: nodes.length > 200 ? 250 : 700 }).run();
  return nodes.map((_, n) => { const { x, y } = graph.getElementById(`n${n}`).position(); return [x, y]; });
};
addEventListener("message", ({ data }) => {
  if (data.layout === "free") self.cytoscape ?? importScripts(data.cytoscape);
  else if (data.layout !== "rings") self.dagre ?? importScripts(data.dagre);
  const place = { down: (one) => layers(one, true), rings, free }[data.layout] ?? layers;
  postMessage({ asked: data.asked, places: place(data) });
});
