"""What stands between the station and a board: wire protocol, firmware, reference device, virtual line.

Open first:

- ``provisioning.py``: what a device and its station agree on. ``provisioning_group.py``: the SMP messages for it, as
  Python types; the wire protocol itself stands in ``docs/protocol.md``.
- ``bundles/``: one file with all that a board gets, signed. ``flashers/``: how it gets onto the board.
- ``signing/``: images that a key elsewhere signs. ``unit_files/``: files with the data of one unit.
- ``mcuboot_image.py``, ``image_kinds.py``, ``version.py``: what an image says of itself.
- ``smp_framing.py``, ``strict_cbor.py``: the bytes below the provisioning group.
- ``build.py``: compiles the reference device.
- ``es256.py``: the signatures that bundles and orders have in common.
- ``testing.py``: bundles and images for tests.
- ``reference_device/``: the device side in C99, which a firmware engineer copies into a product.
- ``virtual_line/``: starts N reference devices on pseudo-terminals, with a wire between that can be harmed.
- ``rom_loaders/``: virtual chips whose loader in ROM answers esptool and stm32loader.

This package knows neither ``station`` nor ``hsm``.
"""
