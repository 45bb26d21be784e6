"""JSON Lines from a file, a folder or a web address: for a tool without a connector of its own."""
