# PSPNet-R18 on images labelled with labelme (DATA=), better from pretrained weights (LOAD_FROM=).
_base_ = ["./pspnet-r18_masks.py"]

source = "labelme"
