"""Readers and makers of corpora: each turns a published folder layout, or a recipe, into examples."""
