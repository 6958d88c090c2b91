# SPDX-License-Identifier: Apache-2.0
# MACHINE=ast1030: bootloader.elf for QEMU's -kernel, and application.bin, to be signed. Needs gcc-arm-none-eabi,
# libnewlib-arm-none-eabi, and the source of Mbed TLS 3.6.

ifeq ($(MBEDTLS),)
$(error MACHINE=ast1030 needs MBEDTLS=DIR, the source of Mbed TLS 3.6: see fetch-mbedtls-3.6.sh)
endif

CROSS ?= arm-none-eabi-
override CC := $(CROSS)gcc
override OPTIMISE := -Os
# Where the application is linked to: behind the header that imgtool writes, at the address board.h names.
APPLICATION := 0x30000
IMAGE_HEADER := 0x200

TARGET := -mcpu=cortex-m4 -mthumb --specs=nano.specs
MACHINE_CFLAGS := $(TARGET)
BOARD := $(addprefix $(HERE)port/ast1030/,startup.c uart.c nor.c flash.c fuses.c entropy.c reset.c)
BOOTLOADER_CORE := $(addprefix $(HERE)core/,bootloader.c cbor.c framing.c group_image.c group_os.c image.c \
                     image_check.c image_choice.c image_upload.c server.c smp.c store.c)
BOOTLOADER := $(BOOTLOADER_CORE) $(HERE)crypto/mbedtls.c $(BOARD) $(HERE)port/ast1030/bootloader.c
APPLICATION_SOURCES := $(filter-out %/bootloader.c,$(CORE)) $(CRYPTO) $(BOARD) $(HERE)port/ast1030/application.c

LINK := $(CC) $(TARGET) -nostartfiles -Wl,--gc-sections -T $(HERE)port/ast1030/program.ld -Wl,--defsym=HEAP=0x4000
to_objects = $(patsubst $(HERE)%.c,$(BUILD)/%.o,$(1))
OBJECTS := $(call to_objects,$(sort $(BOOTLOADER) $(APPLICATION_SOURCES)))
PROGRAMS := $(BUILD)/bootloader.elf $(BUILD)/application.bin

$(BUILD)/bootloader.elf: $(call to_objects,$(BOOTLOADER)) $(MBEDTLS_OBJECTS) $(HERE)port/ast1030/program.ld
	$(LINK) -Wl,--defsym=BEGIN=0 -Wl,--defsym=END=0x2ff00 -Wl,--defsym=STACK=0x5000 -o $@ $(filter %.o,$^)

$(BUILD)/application.elf: $(call to_objects,$(APPLICATION_SOURCES)) $(MBEDTLS_OBJECTS) $(HERE)port/ast1030/program.ld
	$(LINK) -Wl,--defsym=BEGIN=$(APPLICATION)+$(IMAGE_HEADER) -Wl,--defsym=END=0xc0000 -Wl,--defsym=STACK=0x5000 \
	    -o $@ $(filter %.o,$^)

$(BUILD)/application.bin: $(BUILD)/application.elf
	$(CROSS)objcopy -O binary -j .program $< $@
