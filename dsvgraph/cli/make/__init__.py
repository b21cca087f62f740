"""Commands that write something: a spec, a picture, a module, a folder."""
