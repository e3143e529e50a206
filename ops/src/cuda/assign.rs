//! The nearest of many centres for many features of many dimensions: K-means' assignment.

#![allow(unsafe_code)]

use std::ffi::c_void;

use candle_core::{
    CudaDevice, DType, Result, Tensor,
    cuda_backend::{
        WrapErr,
        cudarc::{
            cublas::{
                result::gemm_ex,
                sys::{
                    cublasComputeType_t::CUBLAS_COMPUTE_32F,
                    cublasGemmAlgo_t::CUBLAS_GEMM_DFALT,
                    cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T},
                    cudaDataType::{CUDA_R_16BF, CUDA_R_32F},
                },
            },
            driver::{CudaSlice, CudaView, DevicePtr, DevicePtrMut, PushKernelArg},
        },
    },
};
use half::bf16;

use super::{
    kernels::{Module, counter, device, grid, room, tensor, view_of},
    nearest,
};

const NAME: &str = "assign on CUDA";
const MODULE: Module = Module {
    name: "vqlc_assign",
    source: concat!(include_str!("common.cuh"), include_str!("assign.cu")),
};
/// As in assign.cu. A list of candidates takes `2 * BEST` words.
const THREADS: u32 = 128;
const BEST: usize = 4;
/// Features and centres of one product: 32 MiB, which the caches of large GPUs hold.
const ROWS: usize = 1024;
const COLUMNS: usize = 8192;
/// Below these, measuring every centre is faster.
const LEAST_DIM: usize = 33;
const LEAST_CENTRES: usize = 1024;

/// Ids `[m]` (u32) and squared distances `[m]` (f32) of the rows of `centres` `[n, d]` nearest to the rows of `features` `[m, d]` (f32),
/// as [`tensor::assign`](crate::tensor::assign) has them on the CPU, to the bit. An m x n matrix is never held.
pub(crate) fn assign(features: &Tensor, centres: &Tensor) -> Result<(Tensor, Tensor)> {
    let ((m, dim), (n, _)) = (features.dims2()?, centres.dims2()?);
    if m == 0 || dim < LEAST_DIM || n < LEAST_CENTRES || centres.dim(1)? != dim {
        return nearest::search(features, centres);
    }
    let device = device(NAME, features)?;
    let f32s = |t: &Tensor| t.to_dtype(DType::F32)?.contiguous();
    let (features, centres) = (f32s(features)?, f32s(centres)?);
    let (ids, distances, unsure) = Products::new(&device, &centres)?.assign(&features)?;

    let rows: Vec<u32> = (0..)
        .zip(device.clone_dtoh(&unsure)?)
        .filter_map(|(row, unsure)| (unsure != 0).then_some(row))
        .collect();
    let (mut ids, mut distances) = (ids, distances);
    if !rows.is_empty() {
        let count = rows.len() as u32;
        let rows = Tensor::from_vec(rows, count as usize, features.device())?;
        let (from_ids, from_distances) =
            nearest::search(&features.index_select(&rows, 0)?, &centres)?;
        let (rows, from_ids) = (rows.storage_and_layout(), from_ids.storage_and_layout());
        let from_distances = from_distances.storage_and_layout();
        let (rows, from_ids) = (view_of::<u32>(&rows)?, view_of::<u32>(&from_ids)?);
        let from_distances = view_of::<f32>(&from_distances)?;
        let function = MODULE.function(&device, "assign_scatter")?;
        let mut launch = function.builder();
        launch.arg(&rows).arg(&from_ids).arg(&from_distances);
        launch.arg(&mut ids).arg(&mut distances).arg(&count);
        // SAFETY: the arguments are assign_scatter's, in its order; `count` rows, all below m, and as many results.
        unsafe { launch.launch(grid((count.div_ceil(THREADS), 1), THREADS)) }.w()?;
    }
    Ok((tensor(ids, &device, m), tensor(distances, &device, m)))
}

/// Rows split in two bf16 each, `[rows, 3 dim]`, and their squared lengths `[rows]`.
struct Split {
    parts: CudaSlice<bf16>,
    squares: CudaSlice<f32>,
}

/// The centres, ready to be multiplied with.
struct Products<'a> {
    device: &'a CudaDevice,
    centres: &'a Tensor,
    dim: usize,
    n: usize,
    split: Split,
    /// The greatest squared length, on the device.
    greatest: Tensor,
}

impl<'a> Products<'a> {
    fn new(device: &'a CudaDevice, centres: &'a Tensor) -> Result<Self> {
        let (n, dim) = centres.dims2()?;
        // cuBLAS counts in i32, and a row of parts is three times as long.
        counter(NAME, "the centres", n)?;
        counter(NAME, "a row", 8 * dim)?;
        let held = centres.storage_and_layout();
        let split = split(device, &view_of::<f32>(&held)?, dim, true)?;
        let squares = tensor(split.squares.try_clone().w()?, device, n);
        Ok(Self {
            device,
            centres,
            dim,
            n,
            split,
            greatest: squares.max(0)?,
        })
    }

    /// Ids, distances, and 1 for each feature whose nearest centre may be another.
    fn assign(
        &self,
        features: &Tensor,
    ) -> Result<(CudaSlice<u32>, CudaSlice<f32>, CudaSlice<u32>)> {
        let (device, dim, m) = (self.device, self.dim, features.dim(0)?);
        counter(NAME, "the features", m)?;
        let (features_held, centres_held) = (
            features.storage_and_layout(),
            self.centres.storage_and_layout(),
        );
        let greatest_held = self.greatest.storage_and_layout();
        let (all, centres) = (view_of(&features_held)?, view_of(&centres_held)?);
        let greatest = view_of::<f32>(&greatest_held)?;
        nearest::check_finite(device, dim, &centres, &all)?;

        let (mut ids, mut unsure) = (room::<u32>(device, m)?, room::<u32>(device, m)?);
        let mut distances = room::<f32>(device, m)?;
        let mut products = room::<f32>(device, ROWS.min(m) * COLUMNS.min(self.n))?;
        let mut best = room::<u32>(device, ROWS.min(m) * 2 * BEST)?;
        for from in (0..m).step_by(ROWS) {
            let rows = ROWS.min(m - from);
            let block = all.slice(from * dim..(from + rows) * dim);
            let split = split(device, &block, dim, false)?;
            for first in (0..self.n).step_by(COLUMNS) {
                let columns = COLUMNS.min(self.n - first);
                self.multiply(&split, rows, first, columns, &mut products)?;
                self.scan(&products, &mut best, rows, first, columns)?;
            }
            let (mut ids, mut unsure) = (
                ids.slice_mut(from..from + rows),
                unsure.slice_mut(from..from + rows),
            );
            let mut distances = distances.slice_mut(from..from + rows);
            let (rows, wide) = (rows as u32, dim as u32);
            let tolerance = tolerance(dim);
            let function = MODULE.function(device, "assign_settle")?;
            let mut launch = function.builder();
            launch.arg(&block).arg(&centres).arg(&best);
            launch.arg(&split.squares).arg(&greatest);
            launch.arg(&mut ids).arg(&mut distances).arg(&mut unsure);
            launch.arg(&rows).arg(&wide).arg(&tolerance);
            // SAFETY: the arguments are assign_settle's, in its order; `best` holds candidates of all `rows`, whose ids are below n.
            unsafe { launch.launch(grid((rows.div_ceil(THREADS), 1), THREADS)) }.w()?;
        }
        Ok((ids, distances, unsure))
    }

    /// products [rows, columns] = the block's features times the centres from `first` on.
    fn multiply(
        &self,
        features: &Split,
        rows: usize,
        first: usize,
        columns: usize,
        products: &mut CudaSlice<f32>,
    ) -> Result<()> {
        let stream = self.device.cuda_stream();
        let blas = self.device.cublas_handle();
        let length = 3 * self.dim;
        let centres = self.split.parts.slice(first * length..);
        let (one, zero) = (1f32, 0f32);
        let (centres, _centres_read) = centres.device_ptr(&stream);
        let (features, _features_read) = features.parts.device_ptr(&stream);
        let (products, _products_written) = products.device_ptr_mut(&stream);
        // SAFETY: cuBLAS counts columns first, so row-major [rows, columns] is its columns x rows; the parts are row-major with
        // `length` numbers a row, of which there are at least `columns` and exactly `rows`; `products` has room for all.
        unsafe {
            gemm_ex(
                *blas.handle(),
                CUBLAS_OP_T,
                CUBLAS_OP_N,
                columns as i32,
                rows as i32,
                length as i32,
                (&raw const one).cast(),
                centres as *const c_void,
                CUDA_R_16BF,
                length as i32,
                features as *const c_void,
                CUDA_R_16BF,
                length as i32,
                (&raw const zero).cast(),
                products as *mut c_void,
                CUDA_R_32F,
                columns as i32,
                CUBLAS_COMPUTE_32F,
                CUBLAS_GEMM_DFALT,
            )
        }
        .w()
    }

    fn scan(
        &self,
        products: &CudaSlice<f32>,
        best: &mut CudaSlice<u32>,
        rows: usize,
        first: usize,
        columns: usize,
    ) -> Result<()> {
        let (fresh, first, columns) = (u32::from(first == 0), first as u32, columns as u32);
        let function = MODULE.function(self.device, "assign_scan")?;
        let mut launch = function.builder();
        launch.arg(products).arg(&self.split.squares).arg(best);
        launch.arg(&columns).arg(&first).arg(&fresh);
        // SAFETY: the arguments are assign_scan's, in its order; `products` is [rows, columns], `best` holds a list for each row, and
        // there are squares up to `first + columns`.
        unsafe { launch.launch(grid((rows as u32, 1), THREADS)) }.w()?;
        Ok(())
    }
}

fn split(
    device: &CudaDevice,
    values: &CudaView<'_, f32>,
    dim: usize,
    centres: bool,
) -> Result<Split> {
    let rows = values.len() / dim;
    let mut parts = room::<bf16>(device, 3 * rows * dim)?;
    let mut squares = room::<f32>(device, rows)?;
    let (dim, centres) = (counter(NAME, "a row", dim)?, u32::from(centres));
    let function = MODULE.function(device, "assign_split")?;
    let mut launch = function.builder();
    launch.arg(values).arg(&mut parts).arg(&mut squares);
    launch.arg(&dim).arg(&centres);
    // SAFETY: the arguments are assign_split's, in its order; three parts a number, and a square a row.
    unsafe { launch.launch(grid((rows as u32, 1), THREADS)) }.w()?;
    Ok(Split { parts, squares })
}

/// By how much the distance that products stand for, and the measured one, may be apart, as a share of the sum S of the squared lengths of
/// a feature and the longest centre. A low part is at most 2^-8 of its number and rounded by 2^-17 of it; the products leave out low times
/// low and both roundings: 2^-15 of 2 |x| |c|, which S bounds. Their sum of `3 dim` terms is off by 2^-23 a term (tensor cores cut off
/// instead of rounding), the squared lengths together by half of `dim` such terms, and the measured distance, of up to 2 S, by `dim`; 6 a
/// dimension bounds all.
fn tolerance(dim: usize) -> f32 {
    2f32.powi(-15) + (6 * dim) as f32 * 2f32.powi(-23)
}
