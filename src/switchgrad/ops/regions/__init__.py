"""Boxes on feature maps: RoI pooling and RoIAlign, how boxes overlap, and which of them stay."""

from switchgrad.ops.regions.nms import batched_nms, nms
from switchgrad.ops.regions.overlap import box_area, box_iou, distance_box_iou, generalized_box_iou
from switchgrad.ops.regions.roi_align import ps_roi_align, roi_align
from switchgrad.ops.regions.roi_pool import ps_roi_pool, roi_avg_pool, roi_pool

__all__ = [
    "batched_nms",
    "box_area",
    "box_iou",
    "distance_box_iou",
    "generalized_box_iou",
    "nms",
    "ps_roi_align",
    "ps_roi_pool",
    "roi_align",
    "roi_avg_pool",
    "roi_pool",
]
