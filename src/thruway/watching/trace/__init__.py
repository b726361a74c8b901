"""The recorded numbers of a watched training: storage, reading, saving and display.

Import the public names from `thruway.watching`.
"""

__all__: list[str] = []
