"""HTTP/1.1 connections: what comes in is parsed and bounded, what goes out is written in order."""
