#!/usr/bin/env python3
"""What networkx takes for paths on a graph of `hawser-perf graph`, read from standard input.

Single-source Dijkstra to all nodes (best of five), and the four best simple paths to each of eight
destinations (shortest_simple_paths), of which the mean counts. The source is the first node.
"""

import itertools
import json
import sys
import time

import networkx


def timed(work):
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


def main():
    topology = json.load(sys.stdin)
    graph = networkx.Graph()
    ids = [node["id"] for node in topology["nodes"]]
    graph.add_nodes_from(ids)
    for link in topology["links"]:
        graph.add_edge(link["a"], link["b"], weight=link["latency_us"])
    dijkstra = min(timed(lambda: networkx.single_source_dijkstra_path_length(graph, ids[0])) for _ in range(5))
    destinations = [ids[(len(ids) - 1) * part // 8] for part in range(1, 9)]

    def four(to):
        paths = networkx.shortest_simple_paths(graph, ids[0], to, weight="weight")
        return list(itertools.islice(paths, 4))

    each = sum(timed(lambda to=to: four(to)) for to in destinations) / len(destinations)
    print(f"networkx {networkx.__version__}, {len(ids)} nodes, {graph.number_of_edges()} links: "
          f"Dijkstra to all {dijkstra:.1f} ms, four paths to a destination {each:.1f} ms")


if __name__ == "__main__":
    main()
